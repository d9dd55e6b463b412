//! Params from the command line: `-p key=value`, `-p key=@file`, `--params file|-`.

use std::collections::BTreeMap;
use std::io::Read;

use clap::Args;
use serde_json::value::RawValue;
use tower_domain::json::Json;

use super::codes;
use super::failure::Failure;

/// Longest params, in bytes.
const PARAMS_BYTES_MAX: usize = tower_domain::definition::bounds::JSON_BYTES_MAX;

/// Params.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ParamArgs {
    /// A param: VALUE is read as JSON if it is JSON, else as text; @FILE reads text from a file (repeatable)
    #[arg(short = 'p', long = "param", value_name = "KEY=VALUE")]
    pub(crate) param: Vec<String>,
    /// A file with a JSON object of params, or - for standard input; -p goes over it
    #[arg(long, visible_alias = "input", value_name = "FILE")]
    pub(crate) params: Option<String>,
}

impl ParamArgs {
    /// Whether none were given.
    pub(crate) fn is_empty(&self) -> bool {
        self.param.is_empty() && self.params.is_none()
    }

    /// Reads them all.
    pub(crate) fn read(&self) -> Result<Json, Failure> {
        let base = match &self.params {
            None => Json::empty_object(),
            Some(file) => object(&text_of(file)?, file)?,
        };
        let mut over = BTreeMap::new();
        for param in &self.param {
            let (key, value) = read_param(param)?;
            if over.insert(key, value).is_some() {
                return Err(Failure::usage(format!("-p {param}: this key is given twice")));
            }
        }
        let over = Json::of(&over).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(base.overlaid(&over))
    }
}

fn read_param(param: &str) -> Result<(String, Box<RawValue>), Failure> {
    let (key, value) = param.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| Failure::usage(format!("-p {param}: a param is KEY=VALUE")))?;
    let text = match value.strip_prefix('@') {
        Some(file) => return Ok((key.to_owned(), quoted(&text_of(file)?)?)),
        None => value,
    };
    let json = match Json::parse(text, PARAMS_BYTES_MAX) {
        Ok(json) => RawValue::from_string(json.as_str().to_owned()).map_err(|error| Failure::usage(error.to_string()))?,
        Err(_) => quoted(text)?,
    };
    Ok((key.to_owned(), json))
}

fn quoted(text: &str) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(text).map_err(|error| Failure::usage(error.to_string()))
}

fn object(text: &str, from: &str) -> Result<Json, Failure> {
    let json = Json::parse(text, PARAMS_BYTES_MAX).map_err(|error| Failure::usage(format!("--params {from}: {error}")))?;
    if json.as_str().starts_with('{') { Ok(json) } else { Err(Failure::usage(format!("--params {from}: params are a JSON object"))) }
}

/// The text of a file, or of standard input.
fn text_of(file: &str) -> Result<String, Failure> {
    let read = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => Failure::usage(format!("{file} is not text in UTF-8")),
        _ => Failure::own(&codes::NO_SUCH_FILE, format!("{file} cannot be read: {error}")),
    })
}

/// Labels, and other plain pairs.
pub(crate) fn pairs(given: &[String], flag: &str) -> Result<BTreeMap<String, String>, Failure> {
    given
        .iter()
        .map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("{flag} {pair}: KEY=VALUE is expected")))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(param: &[&str]) -> Result<String, Failure> {
        let args = ParamArgs { param: param.iter().map(|param| (*param).to_owned()).collect(), params: None };
        args.read().map(|json| json.as_str().to_owned())
    }

    #[test]
    fn a_value_is_json_if_it_can_be() {
        let params =
            read(&["n=3", "big=18446744073709551616", "yes=true", "list=[1,2]", "text=Tesla", "quoted=\"3\"", "empty=", "eq=a=b", "none=null"]).unwrap();
        assert_eq!(params, r#"{"big":18446744073709551616,"empty":"","eq":"a=b","list":[1,2],"n":3,"none":null,"quoted":"3","text":"Tesla","yes":true}"#);
    }

    #[test]
    fn files_are_read_as_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("paper.txt");
        std::fs::write(&file, "{\"not\": \"parsed\"}").unwrap();
        assert_eq!(read(&[&format!("text=@{}", file.display())]).unwrap(), r#"{"text":"{\"not\": \"parsed\"}"}"#);
        let args = ParamArgs { param: vec!["not=2".to_owned()], params: Some(file.display().to_string()) };
        assert_eq!(args.read().unwrap().as_str(), r#"{"not":2}"#);
    }

    #[test]
    fn what_is_no_param_is_refused() {
        for bad in [&["novalue"][..], &["=1"], &["a=1", "a=2"], &["a=@/no/such/file"]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
