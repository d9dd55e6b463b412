//! What goes on beside the steps: the engine is watched, orphans are removed, and services are made ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tower_domain::code_ref::CodeRef;
use tower_domain::definition::Definition;
use tower_domain::step::StepEnd;

use super::engine::{Engine, EngineError};
use super::service::Service;
use super::yard::Yard;
use super::{Belongs, images, orphans};

/// How often the engine is asked whether it is there.
const WATCH: Duration = Duration::from_secs(3);

/// How often orphans are looked for.
const SWEEP: Duration = Duration::from_secs(30);

/// How often the pool is looked after.
const KEEP: Duration = Duration::from_secs(1);

impl Yard {
    /// Looks whether the engine is there. If it was not before: removes orphans, and says that there is room.
    pub(super) async fn look(&self, engine: &Engine) -> Result<(), EngineError> {
        if !engine.look().await? {
            return Ok(());
        }
        tracing::info!("the Docker Engine answers");
        self.sweep(engine).await;
        let bell = self.bell.lock().clone();
        if let Some(bell) = bell {
            bell();
        }
        Ok(())
    }

    async fn sweep(&self, engine: &Engine) {
        if let Err(error) = orphans::sweep(engine, &self.names, &self.settings.owner).await {
            tracing::warn!(%error, "orphans were not removed; it is tried again");
        }
    }

    /// Watches the engine until the tower goes down.
    pub(super) async fn watch(self: Arc<Self>, engine: Arc<Engine>) {
        let mut swept = Instant::now();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(WATCH) => {}
                () = engine.doubted() => {}
            }
            let was_up = engine.is_up();
            match self.look(&engine).await {
                Err(error) if was_up => tracing::warn!(%error, "the Docker Engine went away; nothing is claimed until it is back"),
                Err(_) => {}
                Ok(()) if swept.elapsed() >= SWEEP => {
                    self.sweep(&engine).await;
                    swept = Instant::now();
                }
                Ok(()) => {}
            }
        }
    }

    /// Has services stand ready for definitions that are wanted, and lets go of those that nobody wants any more.
    pub(super) async fn keep_warm(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(KEEP) => {}
                () = self.wanted.notified() => {}
            }
            self.pool.expire(self.settings.idle);
            while let Some((key, definition)) = self.pool.short_of() {
                // Never in the place of something else: whoever has a step comes first.
                let Ok(place) = self.places.clone().try_acquire_owned() else { break };
                let made = tokio::select! {
                    () = self.stop.cancelled() => return,
                    made = self.warm_one(&definition, place) => made,
                };
                match made {
                    Ok(service) if !self.stop.is_cancelled() => self.pool.put_warm(key, service),
                    Ok(_) => return,
                    Err(end) => {
                        tracing::warn!(definition = %definition.id, ?end, "no container could be made ready");
                        self.pool.failed(&key);
                    }
                }
            }
        }
    }

    async fn warm_one(&self, definition: &Definition, place: tokio::sync::OwnedSemaphorePermit) -> Result<Service, StepEnd> {
        let CodeRef::Container(image) = &definition.spec.code_ref else { return Err(StepEnd::Released) };
        let engine = self.engine().map_err(|error| super::unavailable(&error))?;
        let spec = definition.spec.container.clone().unwrap_or_default();
        let image = images::ready(engine, image, spec.pull).await?;
        self.serve(self.plan(definition, &spec, &image, "WARM", Belongs::default()), None, place).await
    }
}
