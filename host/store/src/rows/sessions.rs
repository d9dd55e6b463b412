//! Sessions from rows.

use tower_domain::session::Session;

use super::{Bind, Cells, Columns};
use crate::StoreError;

/// Columns of [`session`], of `sessions AS s`.
macro_rules! session_columns {
    () => {
        "s.id, s.user_id, s.sdk_session_id, s.labels, s.status, s.created_at, s.last_used_at, s.closed_at, s.quota_bytes, s.files_max, \
         s.bytes, s.files, s.archive, s.purged"
    };
}
pub(crate) use session_columns;

/// Reads [`session_columns`].
pub(crate) fn session(row: &impl Cells) -> Result<Session, StoreError> {
    let mut columns = Columns::of(row, "sessions");
    Ok(Session {
        id: columns.id()?,
        user_id: columns.text()?,
        sdk_session_id: columns.opt_text()?,
        labels: columns.read()?,
        status: columns.word()?,
        created_at: columns.at()?,
        last_used_at: columns.at()?,
        closed_at: columns.opt_at()?,
        quota_bytes: columns.opt_uint()?,
        files_max: columns.opt_uint()?,
        bytes: columns.uint()?,
        files: columns.uint()?,
        archive: columns.read()?,
        purged: columns.flag()?,
    })
}

/// Those of a new one: id, user, its other name, labels, status, made, used, quota, files, bytes held, files held.
pub(crate) fn bind_session(params: &mut impl Bind, session: &Session) {
    let labels = (!session.labels.is_empty()).then(|| serde_json::to_string(&session.labels).expect("a map of texts is always JSON"));
    params.id(session.id).text(session.user_id.as_str()).opt_text(session.sdk_session_id.as_deref()).opt_text(labels).word(session.status);
    params.at(session.created_at).at(session.last_used_at);
    let bound = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    params.opt_int(bound(session.quota_bytes)).opt_int(bound(session.files_max)).uint(session.bytes).uint(session.files);
}
