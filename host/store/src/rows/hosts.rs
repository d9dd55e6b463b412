//! Hosts from rows.

use super::{Bind, Cells, Columns};
use crate::StoreError;
use crate::hosts::{HostBeat, HostRow};

/// Columns of [`host_row`], of `hosts AS i`.
macro_rules! host_columns {
    () => {
        "i.id, i.version, i.started_at, i.slots, i.running, i.url, i.seen_at, i.draining, i.left_at"
    };
}
pub(crate) use host_columns;

/// The first six of these.
pub(crate) fn bind_beat(params: &mut impl Bind, beat: &HostBeat) {
    params.text(beat.id.as_str()).text(beat.version.as_str()).at(beat.started_at).int(beat.slots).int(beat.running).opt_text(beat.url.as_deref());
}

pub(crate) fn host_row(row: &impl Cells) -> Result<HostRow, StoreError> {
    let mut columns = Columns::of(row, "hosts");
    let (id, version, started_at) = (columns.text()?, columns.text()?, columns.at()?);
    let beat = HostBeat { id, version, started_at, slots: columns.uint()?, running: columns.uint()?, url: columns.opt_text()? };
    Ok(HostRow { beat, seen_at: columns.at()?, draining: columns.flag()?, left_at: columns.opt_at()? })
}
