//! What the operator grants definitions.

use tower_domain::codes;
use tower_domain::container::{ContainerSpec, Network};
use tower_domain::definition::DefinitionSpec;
use tower_domain::step::CodeProblem;

use super::yard::Yard;

impl Yard {
    /// Whether the operator grants what the definition asks for.
    pub(super) fn allowed(&self, spec: &DefinitionSpec) -> Result<(), CodeProblem> {
        let refused = |message: String| Err(CodeProblem { code: codes::CONTAINER_NOT_ALLOWED.name, message });
        let (container, settings) = (spec.container.clone().unwrap_or_default(), &self.settings);
        if container.network == Network::Outside && !settings.network {
            return refused(
                "container.network is OUTSIDE, and this tower's containers reach nothing; the operator may allow it: `--container-network`".to_owned(),
            );
        }
        if container.user.is_some() && !settings.users {
            let user = ContainerSpec::USER;
            return refused(format!("container.user is set, and this tower's containers run as {user}; the operator may allow it: `--container-users`"));
        }
        let memory = container.memory(&spec.resource_profile);
        if memory > settings.memory_bytes_max {
            let most = settings.memory_bytes_max;
            return refused(format!(
                "the container is to have {memory} bytes of memory, and {most} is the most here; the operator may raise it: `--container-mib-max`"
            ));
        }
        if container.cpus() > settings.cpus_max {
            let (cpus, most) = (container.cpus(), settings.cpus_max);
            return refused(format!(
                "the container is to have {cpus} processors, and {most} is the most here; the operator may raise it: `--container-cpus-max`"
            ));
        }
        match &spec.capabilities.workspace {
            Some(name) if !settings.mounts.contains_key(name) => {
                Err(CodeProblem { code: codes::WORKSPACE_UNKNOWN.name, message: format!("this host declares no workspace `{name}`") })
            }
            _ => Ok(()),
        }
    }
}
