//! What the operator may set, and the engine that is made of it.
//!
//! The figures behind the defaults were measured: see the table in the operator's guide. The large ones are keeping memory
//! resident between uses of a slot, and leaving component-model async out.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::compile::{CompileIn, CompileLimits};
use super::inspect::FEATURES_OFF;
use tower_domain::definition::ResourceProfile;
use tower_domain::name::Name;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// Core instances that one component may be made of. A Python guest has 14.
pub const CORE_INSTANCES_MAX: u32 = 40;
/// Memories of one component. QuickJS has two.
pub const MEMORIES_MAX: u32 = 4;
/// Tables of one component.
pub const TABLES_MAX: u32 = 16;
/// Elements of one table. SpiderMonkey has 7 700.
pub const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Most slots: each live run holds about six memory maps, and past `vm.max_map_count` (65 530 by default) allocation in the whole
/// process fails.
pub const SLOTS_MAX: u32 = 8_000;
/// How many tables the pool holds for each slot.
pub(crate) const TABLES_A_SLOT: u32 = 4;

const WASM_STACK_BYTES: usize = 512 * 1024;
const ASYNC_STACK_BYTES: usize = 2 * 1024 * 1024;
const INSTANCE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What of a slot's memory stays resident between two uses, in bytes.
const KEEP_RESIDENT_BYTES: usize = 256 * 1024;
const KEEP_RESIDENT_TABLE_BYTES: usize = 64 * 1024;
const WASM_PAGE_BYTES: u64 = 64 * 1024;

/// How steps are run as components. Every field has a default that suits a host of a few cores.
#[derive(Debug, Clone)]
pub struct WasmConfig {
    /// Components that may run at once; the others wait. At most [`SLOTS_MAX`]. Each reserves about 8 GiB of address space and no
    /// memory. Default 1 000.
    pub slots: u32,
    /// Largest memory of a component, in bytes: what a definition's `memory_bytes` can be at most on this host. Default 4 GiB.
    pub memory_bytes_max: u64,
    /// Threads that run components and nothing else. Default: one a core.
    pub guest_threads: usize,
    /// Where components are compiled.
    pub compile_in: CompileIn,
    /// Components that are compiled at the same time; at least two. Default: one a core.
    pub compiles_at_once: usize,
    /// What compiling one of them may use.
    pub compile_limits: CompileLimits,
    /// Folder that keeps native images from one start to the next. Default: none, and every start compiles anew.
    pub images: Option<PathBuf>,
    /// What is kept there, in bytes. Default 4 GiB.
    pub images_bytes_max: u64,
    /// Compiled components that are kept ready. Default 256.
    pub modules_max: usize,
    /// Machine code that is kept ready, in bytes. Default 1 GiB.
    pub code_bytes_max: usize,
    /// What a component may hand the host in one call, in bytes; enough for 10 000 children of a few hundred bytes each.
    /// Default 8 MiB.
    pub hostcall_bytes_max: usize,
    /// How often running components are looked at. Default 10 ms.
    pub tick: Duration,
    /// Folders that definitions may be granted by name, read-only. Default: none.
    pub mounts: BTreeMap<Name, PathBuf>,
}

impl WasmConfig {
    /// The defaults.
    pub fn new(compile_in: CompileIn) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            slots: 1_000,
            memory_bytes_max: ResourceProfile::MEMORY_BYTES_MAX,
            guest_threads: cores,
            compile_in,
            compiles_at_once: cores.max(2),
            compile_limits: CompileLimits::default(),
            images: None,
            images_bytes_max: 4 << 30,
            modules_max: 256,
            code_bytes_max: 1 << 30,
            hostcall_bytes_max: 8 << 20,
            tick: Duration::from_millis(10),
            mounts: BTreeMap::new(),
        }
    }
}

/// Why no executor could be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting is out of bounds.
    #[error("{setting} is {got}: {rule}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What was given.
        got: String,
        /// What would be right.
        rule: String,
    },
    /// A mount is no folder.
    #[error("mount `{name}`: `{path}` cannot be read as a folder")]
    Mount {
        /// The mount.
        name: Name,
        /// What was given.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not even one component fits.
    #[error("the sandbox cannot be made, not even for one component at a time: {0}; is the address space of this process limited (`ulimit -v`)?")]
    Engine(String),
    /// The folder for native images cannot be used.
    #[error("the folder for native images, `{path}`, cannot be used")]
    Images {
        /// What was given.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The threads for components could not be started.
    #[error("the threads that run components cannot be started")]
    Threads(#[source] std::io::Error),
}

impl WasmConfig {
    pub(crate) fn check(&self) -> Result<(), SetupError> {
        let need = |ok: bool, setting: &'static str, got: String, rule: &str| {
            if ok { Ok(()) } else { Err(SetupError::Setting { setting, got, rule: rule.to_owned() }) }
        };
        need((1..=SLOTS_MAX).contains(&self.slots), "slots", self.slots.to_string(), "1 to 8000")?;
        let memory = (WASM_PAGE_BYTES..=ResourceProfile::MEMORY_BYTES_MAX).contains(&self.memory_bytes_max);
        need(memory, "memory_bytes_max", self.memory_bytes_max.to_string(), "65536 to 4294967296 bytes")?;
        need(self.guest_threads > 0, "guest_threads", self.guest_threads.to_string(), "at least 1")?;
        need(self.compiles_at_once > 1, "compiles_at_once", self.compiles_at_once.to_string(), "at least 2")?;
        let cpu_sec = self.compile_limits.cpu_sec;
        need((1..=3_600).contains(&cpu_sec), "compile_limits.cpu_sec", cpu_sec.to_string(), "1 to 3600 seconds")?;
        need(self.modules_max > 0, "modules_max", self.modules_max.to_string(), "at least 1")?;
        let tick = Duration::from_millis(1)..=Duration::from_millis(100);
        need(tick.contains(&self.tick), "tick", format!("{:?}", self.tick), "1 to 100 milliseconds")?;
        for (name, path) in &self.mounts {
            std::fs::read_dir(path).map_err(|source| SetupError::Mount { name: name.clone(), path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// Makes the engine; with fewer slots if the machine does not give the address space for all. Says how many there are.
pub(crate) fn make_engine(config: &WasmConfig) -> Result<(Engine, u32), SetupError> {
    with_fewer_slots(config.slots, |slots| Engine::new(&engine_config(config, slots)))
}

/// Tries with half the slots each time, down to one.
fn with_fewer_slots<T>(wanted: u32, mut make: impl FnMut(u32) -> wasmtime::Result<T>) -> Result<(T, u32), SetupError> {
    let mut slots = wanted;
    loop {
        match make(slots) {
            Ok(made) => {
                if slots < wanted {
                    tracing::warn!(slots, wanted, "the machine gives less address space than asked for: fewer components run at once");
                }
                return Ok((made, slots));
            }
            Err(error) if slots == 1 => return Err(SetupError::Engine(format!("{error:#}"))),
            Err(_) => slots /= 2,
        }
    }
}

fn engine_config(config: &WasmConfig, slots: u32) -> Config {
    let mut engine = compiler_config();
    engine.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config, slots)));
    engine
}

/// What decides about machine code: the same for the engine that runs it and for the workers that make it.
pub(crate) fn compiler_config() -> Config {
    let mut engine = Config::new();
    engine
        .epoch_interruption(true)
        .concurrency_support(false)
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(false)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES)
        .memory_init_cow(true)
        .wasm_features(FEATURES_OFF, false)
        .shared_memory(false);
    engine
}

fn pool(config: &WasmConfig, slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    let memory_bytes = config.memory_bytes_max.next_multiple_of(WASM_PAGE_BYTES).min(ResourceProfile::MEMORY_BYTES_MAX);
    pool.total_component_instances(slots)
        .total_stacks(slots)
        .total_memories(slots)
        .total_tables(slots * TABLES_A_SLOT)
        .total_core_instances(slots * CORE_INSTANCES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(usize::try_from(memory_bytes).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_TABLE_BYTES)
        .pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_with_little_address_space_gets_fewer_slots() {
        let (made, slots) = with_fewer_slots(1_000, |slots| if slots > 130 { Err(wasmtime::Error::msg("mmap")) } else { Ok(slots) }).unwrap();
        assert_eq!((made, slots), (125, 125));
        let none = with_fewer_slots(10, |_| Err::<(), _>(wasmtime::Error::msg("mmap failed"))).unwrap_err();
        assert!(none.to_string().contains("mmap failed"), "{none}");
    }

    fn config() -> WasmConfig {
        WasmConfig::new(CompileIn::ThisProcess)
    }

    #[test]
    fn the_engine_that_runs_takes_what_the_workers_make() {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let hash = |config: &Config| {
            let mut hasher = DefaultHasher::new();
            Engine::new(config).unwrap().precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&compiler_config()), hash(&engine_config(&config(), 4)));
        assert_ne!(hash(&compiler_config()), hash(compiler_config().epoch_interruption(false)));
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_rule() {
        let wrong = WasmConfig { slots: 9_000, ..config() }.check().unwrap_err();
        assert_eq!(wrong.to_string(), "slots is 9000: 1 to 8000");
        let mounts = BTreeMap::from([(Name::new("data").unwrap(), PathBuf::from("/no/such/folder"))]);
        let wrong = WasmConfig { mounts, ..config() }.check().unwrap_err();
        assert!(wrong.to_string().contains("mount `data`"), "{wrong}");
    }
}
