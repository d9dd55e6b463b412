//! Reading requests: bodies, query parameters, path segments and headers, with refusals that name the place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tower_domain::id::{SessionId, TaskId, TraceId};
use tower_domain::json::{BadJson, Json};
use tower_domain::name::Name;
use tower_engine::orders::IdempotencyKey;
use tower_store::read::PageRequest;
use utoipa::IntoParams;

use super::Api;
use super::problem::{FieldProblem, Problem, codes};

/// Largest JSON body: params of 1 MiB and what is around them.
const JSON_BODY_BYTES_MAX: usize = 2 << 20;
/// What a body must come at once its timeout is over, in bytes a second: one that drips ends as well.
pub(crate) const BODY_RATE_MIN: u32 = 16 * 1024;
/// How much of a refused body is taken off the wire before the answer, in bytes, and for how long.
const DISCARD_BYTES_MAX: usize = 16 << 20;
const DISCARD_WAIT: Duration = Duration::from_millis(500);
/// Longest Idempotency-Key.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Room for bodies in memory, of all requests together: a permit for each KiB.
pub(crate) type Room = OwnedSemaphorePermit;

/// A body read whole, at most `bytes_max` long, and its room, to be kept as long as the body is. It may stand still for the body timeout,
/// and, at less than [`BODY_RATE_MIN`], take no longer.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body, bytes_max: usize, api: &Api) -> Result<(Bytes, Room), Problem> {
    let timeout = api.settings.body_timeout;
    let too_large = || Problem::new(&codes::TOO_LARGE, format!("this path takes bodies of at most {bytes_max} bytes"));
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Problem::new(&codes::WRONG_MEDIA_TYPE, "a body with a Content-Encoding is not taken").with_hint("send the body as it is"));
    }
    // Refused by its announced length, before any of it is waited for.
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()).and_then(|length| length.parse::<usize>().ok());
    let mut pieces = body.into_data_stream();
    if announced.is_some_and(|length| length > bytes_max) {
        // Who asks first whether it may send needs no more than the answer.
        if !headers.contains_key(header::EXPECT) {
            discard(pieces).await;
        }
        return Err(too_large());
    }
    // What is announced is not yet here: memory is taken as it comes.
    let mut gathered = Vec::with_capacity(announced.unwrap_or(0).min(64 * 1024));
    let mut room = more_room(api, 0, 0)?;
    let begin = Instant::now();
    loop {
        let in_all = begin + timeout + Duration::from_secs(gathered.len() as u64) / BODY_RATE_MIN;
        let piece = tokio::time::timeout_at(in_all.min(Instant::now() + timeout), pieces.next()).await;
        match piece.map_err(|_| too_slow(timeout))? {
            None => return Ok((gathered.into(), room)),
            Some(Err(_)) => return Err(Problem::new(&codes::BAD_REQUEST, "the body broke off")),
            Some(Ok(piece)) if gathered.len() + piece.len() > bytes_max => {
                discard(pieces).await;
                return Err(too_large());
            }
            Some(Ok(piece)) => match more_room(api, room.num_permits(), gathered.len() + piece.len()) {
                Ok(more) => {
                    room.merge(more);
                    gathered.extend_from_slice(&piece);
                }
                Err(full) => {
                    discard(pieces).await;
                    return Err(full);
                }
            },
        }
    }
}

/// What `bytes` need beyond the KiB that they have.
fn more_room(api: &Api, have: usize, bytes: usize) -> Result<Room, Problem> {
    let more = u32::try_from(bytes.div_ceil(1024).saturating_sub(have)).unwrap_or(u32::MAX);
    let full = |_| Problem::new(&codes::UNAVAILABLE, "the bodies of other requests take all the memory that there is for them").with_retry_after(1);
    api.bodies.clone().try_acquire_many_owned(more).map_err(full)
}

pub(crate) fn too_slow(timeout: Duration) -> Problem {
    let timeout = timeout.as_secs_f64();
    Problem::new(
        &codes::BODY_TOO_SLOW,
        format!("the body stood still for {timeout}s, or came at less than {BODY_RATE_MIN} bytes a second for longer than that"),
    )
}

/// Takes a refused body off the wire, within bounds: a client that is still sending when the connection closes would see a broken
/// connection and never the answer.
pub(crate) async fn discard(mut pieces: axum::body::BodyDataStream) {
    let mut room = DISCARD_BYTES_MAX;
    let drained = async {
        while let Some(Ok(piece)) = pieces.next().await {
            room = room.saturating_sub(piece.len());
            if room == 0 {
                break;
            }
        }
    };
    // Out of time is as good as done.
    let _ = tokio::time::timeout(DISCARD_WAIT, drained).await;
}

/// A JSON body, with its bytes for fingerprints.
pub(crate) struct JsonBody<T> {
    /// What it says.
    pub(crate) value: T,
    /// As it came.
    pub(crate) bytes: Bytes,
    _room: Room,
}

/// A JSON body that may be left out.
pub(crate) struct OptionalJson<T> {
    /// What it says.
    pub(crate) value: T,
    /// As it came.
    pub(crate) bytes: Bytes,
    _room: Room,
}

/// JSON text, checked, and not yet read as anything.
pub(crate) struct JsonText {
    /// The text.
    pub(crate) json: Json,
    _room: Room,
}

impl FromRequest<Api> for JsonText {
    type Rejection = Problem;
    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        json_text(request, api, false).await.map(|(_, json, room)| Self { json, _room: room })
    }
}

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (bytes, json, room) = json_text(request, api, false).await?;
        Ok(Self { value: read_object(&json)?, bytes, _room: room })
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Api> for OptionalJson<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (bytes, json, room) = json_text(request, api, true).await?;
        let value = if bytes.is_empty() { T::default() } else { read_object(&json)? };
        Ok(Self { value, bytes, _room: room })
    }
}

async fn json_text(request: Request, api: &Api, may_be_empty: bool) -> Result<(Bytes, Json, Room), Problem> {
    let (parts, body) = request.into_parts();
    let media_type = media_type(&parts.headers);
    let is_json = media_type.as_deref().is_some_and(|media_type| media_type == "application/json" || media_type.ends_with("+json"));
    let wrong_type = || Problem::new(&codes::WRONG_MEDIA_TYPE, "this path takes JSON").with_hint("send Content-Type: application/json");
    let unnamed = may_be_empty && media_type.is_none();
    if !(is_json || unnamed) {
        return Err(wrong_type());
    }
    let (bytes, room) = read_body(&parts.headers, body, JSON_BODY_BYTES_MAX, api).await?;
    if bytes.is_empty() && may_be_empty {
        return Ok((bytes, Json::null(), room));
    }
    if !is_json {
        return Err(wrong_type());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::new(&codes::BAD_JSON, "the body is not UTF-8"))?;
    let json = Json::parse(text, JSON_BODY_BYTES_MAX).map_err(|error| match error {
        BadJson::Invalid(why) => Problem::new(&codes::BAD_JSON, why),
        BadJson::TooLong { .. } => Problem::new(&codes::TOO_LARGE, error.to_string()),
    })?;
    Ok((bytes, json, room))
}

/// The media type, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Reads checked JSON as a type with fields.
pub(crate) fn read_object<T: DeserializeOwned>(json: &Json) -> Result<T, Problem> {
    read_json::<Fields<T>>(json).map(|Fields(value)| value)
}

/// A type with fields, read from an object and from nothing else: serde would take the fields from an array as well, in the order in
/// which they are declared.
pub(crate) struct Fields<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Fields<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fields(deserializer).map(Self)
    }
}

/// [`Fields`], for a field that is an object itself.
pub(crate) fn fields<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_map(Object(PhantomData))
}

/// The same for one that need not be there.
pub(crate) fn optional_fields<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Fields<T>>::deserialize(deserializer)?.map(|Fields(value)| value))
}

/// Reads checked JSON as a type; what does not fit is named by its JSON pointer.
pub(crate) fn read_json<T: DeserializeOwned>(json: &Json) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_str(json.as_str());
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let at = pointer(error.path());
        let message = without_position(&error.into_inner().to_string());
        let pointer = match field_in(&message) {
            Some(field) if !at.ends_with(&format!("/{field}")) => format!("{at}/{field}"),
            _ => at,
        };
        Problem::field(&codes::BAD_FIELDS, pointer, message)
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// The field that serde names in these two of its messages.
fn field_in(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("missing field `").or_else(|| message.strip_prefix("unknown field `"))?;
    rest.split('`').next()
}

/// Lines and columns help nobody whose JSON is on one line.
fn without_position(message: &str) -> String {
    let cut = message.rfind(" at line ").unwrap_or(message.len());
    message[..cut].to_owned()
}

/// Query parameters. A list is given by repeating the parameter or with commas.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let bad = || Problem::new(&codes::BAD_QUERY, "the query cannot be read as name=value pairs");
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|_| bad())?;
        let mut fields = BTreeMap::<String, String>::new();
        for (name, value) in pairs {
            if value.contains('\0') {
                return Err(bad());
            }
            fields.entry(name).and_modify(|all| *all = format!("{all},{value}")).or_insert(value);
        }
        let object = fields.into_iter().map(|(name, value)| (name, serde_json::Value::String(value))).collect();
        serde_path_to_error::deserialize(serde_json::Value::Object(object)).map(Self).map_err(|error| {
            let at = pointer(error.path());
            let message = error.into_inner().to_string();
            let name = field_in(&message).unwrap_or(at.trim_start_matches('/')).to_owned();
            Problem::field(&codes::BAD_QUERY, format!("?{name}"), message)
        })
    }
}

/// Reads a query parameter through its text form.
pub(crate) fn from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// Reads a list of words, in whatever case.
pub(crate) fn word_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word_alias(&word.to_ascii_uppercase()).parse().map_err(serde::de::Error::custom)).collect()
}

/// Other words that people use for the same.
fn word_alias(word: &str) -> &str {
    match word {
        "COMPLETED" | "SUCCEEDED" => "SUCCESS",
        "PROCESSING" => "RUNNING",
        "CANCELED" => "CANCELLED",
        "READY" => "QUEUED",
        word => word,
    }
}

/// How many items on a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit(pub(crate) u32);

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let limit = text.parse().ok().filter(|limit| (1..=tower_store::read::PAGE_MAX).contains(limit));
        limit.map(Self).ok_or_else(|| serde::de::Error::custom(format!("1 to {}", tower_store::read::PAGE_MAX)))
    }
}

/// Which page, of a list that takes nothing else.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    pub(crate) limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl PageQuery {
    /// The cursor, read.
    pub(crate) fn after<C: FromStr>(&self) -> Result<Option<C>, Problem> {
        cursor(self.cursor.as_deref())
    }

    /// As stores take it.
    pub(crate) fn page<C: FromStr>(&self) -> Result<PageRequest<C>, Problem> {
        Ok(PageRequest { after: self.after()?, limit: self.limit.0 })
    }
}

/// How long to wait for an end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wait(pub(crate) Option<Duration>);

impl Wait {
    const MAX: Duration = Duration::from_secs(60);
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let wait = crate::config::parse_duration(&text).ok().filter(|wait| *wait <= Self::MAX);
        wait.map(|wait| Self(Some(wait))).ok_or_else(|| serde::de::Error::custom("a duration of at most 60s, such as 30s or 500ms"))
    }
}

/// The cursor of a list whose cursors are one id or name.
pub(crate) fn cursor<T: FromStr>(text: Option<&str>) -> Result<Option<T>, Problem> {
    let bad =
        || Problem::field(&codes::BAD_CURSOR, "?cursor", "not a cursor that this list gave").with_hint("hand over next_cursor of the page before, as it is");
    text.map(|text| text.parse().map_err(|_| bad())).transpose()
}

/// Segments of the path.
pub(crate) struct PathOf<T>(pub(crate) T);

/// What segments of a path can be read as.
pub(crate) trait Segments: Sized {
    /// Reads them.
    fn read(segments: &[String]) -> Result<Self, Problem>;
}

impl<S: Send + Sync, T: Segments> FromRequestParts<S> for PathOf<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let segments = Path::<Vec<String>>::from_request_parts(parts, state).await;
        let Path(segments) = segments.map_err(|_| Problem::new(&codes::BAD_NAME, "the path is not UTF-8"))?;
        T::read(&segments).map(Self)
    }
}

fn segment(segments: &[String], index: usize) -> &str {
    segments.get(index).map_or("", String::as_str)
}

fn bad_id(error: &tower_domain::id::BadId, wanted: &str) -> Problem {
    let problem = Problem::new(&codes::BAD_ID, error.to_string());
    match Name::new(&error.got) {
        Ok(name) if error.got.len() < 26 => problem.with_hint(format!("if `{name}` is a definition: GET /api/v1/definitions/{name}")),
        _ => problem.with_hint(format!("here the id of a {wanted} is expected")),
    }
}

/// A name, or why it is not one.
pub(crate) fn name(text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|error| Problem::new(&codes::BAD_NAME, error.to_string()))
}

impl Segments for TraceId {
    fn read(segments: &[String]) -> Result<Self, Problem> {
        segment(segments, 0).parse().map_err(|error| bad_id(&error, "trace"))
    }
}

impl Segments for TaskId {
    fn read(segments: &[String]) -> Result<Self, Problem> {
        segment(segments, 0).parse().map_err(|error| bad_id(&error, "task"))
    }
}

impl Segments for SessionId {
    fn read(segments: &[String]) -> Result<Self, Problem> {
        segment(segments, 0).parse().map_err(|error| bad_id(&error, "session"))
    }
}

impl Segments for (SessionId, String) {
    fn read(segments: &[String]) -> Result<Self, Problem> {
        Ok((SessionId::read(segments)?, segment(segments, 1).to_owned()))
    }
}

impl Segments for Name {
    fn read(segments: &[String]) -> Result<Self, Problem> {
        name(segment(segments, 0))
    }
}

impl Segments for String {
    fn read(segments: &[String]) -> Result<Self, Problem> {
        Ok(segment(segments, 0).to_owned())
    }
}

impl Segments for (Name, String) {
    fn read(segments: &[String]) -> Result<Self, Problem> {
        Ok((name(segment(segments, 0))?, segment(segments, 1).to_owned()))
    }
}

/// The Idempotency-Key header, with or without the quotes of a structured field.
pub(crate) struct Idempotency(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Idempotency {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let rule = || Problem::new(&codes::BAD_HEADER, format!("Idempotency-Key: one, of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"));
        let text = value.to_str().map_err(|_| rule())?.trim();
        let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let sound = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if values.next().is_some() || !sound { Err(rule()) } else { Ok(Self(Some(key.to_owned()))) }
    }
}

impl Idempotency {
    /// The key for a request on `target` with this body.
    pub(crate) fn of(self, target: &str, body: &[u8]) -> Option<IdempotencyKey> {
        let key = self.0?;
        let fingerprint = Sha256::new().chain_update(target).chain_update([0]).chain_update(body).finalize().into();
        Some(IdempotencyKey { key, fingerprint })
    }
}

/// Field errors of the domain, under a prefix.
pub(crate) fn field_problems<'a>(errors: impl IntoIterator<Item = (&'a str, &'a str)>, prefix: &str) -> Vec<FieldProblem> {
    errors.into_iter().map(|(pointer, message)| FieldProblem { pointer: format!("{prefix}{pointer}"), message: message.to_owned() }).collect()
}
