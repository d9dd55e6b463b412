//! A step on its way into a container, and back.

use std::sync::Arc;

use parking_lot::Mutex;
use tower_domain::code_ref::ImageRef;
use tower_domain::container::{ContainerSpec, Mode, Protocol};
use tower_domain::step::{LogLevel, LogLine, LogStream, Step, StepEnd, StepHost};

use super::belongs::Belongs;
use super::container::Linger;
use super::images::{self, Image};
use super::logs::Logs;
use super::pool::PoolKey;
use super::yard::Yard;
use super::{command, create, unavailable};
use crate::desk::Opened;

/// Where a container's calls are, by the socket that it is shown.
const BASE: &str = "http://tower";

/// A step on its way into a container.
pub(super) struct Errand<'a> {
    pub(super) step: &'a Arc<Step>,
    pub(super) host: &'a Arc<dyn StepHost>,
    pub(super) attempt: &'a Opened,
    pub(super) belongs: Belongs,
    /// Where the right is put to let its container end by itself.
    pub(super) linger: &'a Mutex<Option<Linger>>,
}

impl Yard {
    /// Runs the step, however long it takes.
    pub(super) async fn work(&self, errand: Errand<'_>, image: &ImageRef) -> StepEnd {
        let engine = match self.engine() {
            Ok(engine) => engine,
            Err(error) => return unavailable(&error),
        };
        let spec = errand.step.definition.spec.container.clone().unwrap_or_default();
        let image = match images::ready(engine, image, spec.pull).await {
            Ok(image) => image,
            Err(end) => return end,
        };
        let exactly = image.digest.as_deref().unwrap_or(&image.id);
        let message = format!("runs {} as {exactly}", image.name);
        errand.host.log(LogLine { stream: LogStream::Log, level: LogLevel::Debug, message, fields: None });
        match spec.protocol {
            Protocol::Command => self.command(errand, &spec, &image).await,
            Protocol::Service => self.service(errand, &spec, &image).await,
        }
    }

    async fn command(&self, errand: Errand<'_>, spec: &ContainerSpec, image: &Image) -> StepEnd {
        let Errand { step, host, attempt, belongs, linger } = errand;
        let Some(place) = self.place().await else { return StepEnd::Released };
        let handed = attempt.handed(BASE, None);
        let mut plan = self.plan(&step.definition, spec, image, "EPHEMERAL", belongs);
        plan.labels.extend([(create::TASK, step.task_id.to_string()), (create::FENCE, step.fence.to_string())]);
        plan.env.extend([("TOWER_ATTEMPT_URL", handed.attempt.url.clone()), ("TOWER_TOKEN", handed.attempt.token.clone())]);
        match self.make(plan, Logs::new(true, Some(host.clone())), place).await {
            Ok(container) => {
                *linger.lock() = Some(container.linger());
                command::run(&container, &handed, &**host).await
            }
            Err(end) => end,
        }
    }

    async fn service(&self, errand: Errand<'_>, spec: &ContainerSpec, image: &Image) -> StepEnd {
        let Errand { step, host, attempt, belongs, linger } = errand;
        let key = PoolKey::of(&step.definition, belongs.session);
        let is_kept = spec.mode == Mode::Persistent;
        let turn = if is_kept { Some(self.pool.turn(&key).await) } else { None };
        let waiting = if is_kept { self.pool.kept(&key) } else { self.pool.warm(&key) };
        let waiting = match waiting {
            // It may have died while it waited.
            Some(service) if service.is_healthy(&self.client).await => Some(service),
            _ => None,
        };
        if !is_kept && self.settings.warm > 0 {
            self.pool.want(key.clone(), step.definition.clone(), self.settings.warm);
            self.wanted.notify_one();
        }
        let service = match waiting {
            Some(service) => {
                service.container.logs.tell(Some(host.clone()));
                service
            }
            None => {
                let Some(place) = self.place().await else { return StepEnd::Released };
                let mode = if is_kept { "PERSISTENT" } else { "EPHEMERAL" };
                match self.serve(self.plan(&step.definition, spec, image, mode, belongs), Some(host.clone()), place).await {
                    Ok(service) => service,
                    Err(end) => return end,
                }
            }
        };
        *linger.lock() = Some(service.container.linger());
        let handed = attempt.handed(BASE, None);
        let end = tokio::select! {
            biased;
            end = attempt.ended() => end,
            end = service.run(step, &handed, &**host, &self.client) => end,
        };
        if !is_kept {
            service.container.end().await;
            return end;
        }
        service.container.logs.calm().await;
        // One whose step did not end in order may still be at it.
        let is_sound = !matches!(&end, StepEnd::Cancelled | StepEnd::Released) && service.is_healthy(&self.client).await;
        if is_sound && !self.stop.is_cancelled() {
            self.pool.keep(key, service);
        }
        drop(turn);
        end
    }
}
