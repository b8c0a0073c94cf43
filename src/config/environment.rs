//! The environment as the highest layer: `ENDCAP_REDIS__URL` is `redis.url`.
//!
//! A variable's type is that of its key and is never guessed: a secret of digits stays a text.

use toml::{Table, Value};

use super::diagnostic::{Place, Problem};
use super::raw::Raw;
use super::shape::{Kind, Path, Shape, Shaped, Step, TOMBSTONES, nearest};

const PREFIX: &str = "ENDCAP_";

/// A variable with its path in the file.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) path: Path,
}

/// The variables that are ours. An empty one counts as not given, as `${X:-}` in a compose file means it.
pub(super) fn ours(env: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut ours: Vec<_> =
        env.filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty() && !is_foreign(name)).collect();
    // The order of an environment is not defined; the order of problems is.
    ours.sort();
    ours
}

/// Variables that begin like ours and are not: the path of the file itself and the sample shop's, which the
/// command line reads, and what Kubernetes and Docker inject for services whose names begin with endcap
/// (`ENDCAP_SERVICE_HOST`, `ENDCAP_OPS_PORT_8081_TCP`). None of our own has these parts, nor steps into a
/// section with a single underscore.
fn is_foreign(name: &str) -> bool {
    let injected = |part: &str| name.contains(&format!("{part}_")) || name.ends_with(part);
    name == "ENDCAP_CONFIG"
        || name.starts_with("ENDCAP_SHOP_")
        || (!name.contains("__")
            && (injected("_PORT") || name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT")))
}

/// What became of the variables.
#[derive(Debug, Default)]
pub(super) struct Overlaid {
    /// Those that were taken.
    pub(super) taken: Vec<Variable>,
    /// The paths of those that were wrong.
    pub(super) spoiled: Vec<Path>,
}

/// Lays variables over a table. What is wrong is reported and left out.
pub(super) fn overlay(variables: Vec<(String, String)>, table: &mut Table, problems: &mut Vec<Problem>) -> Overlaid {
    let mut overlaid = Overlaid::default();
    for (name, text) in variables {
        let mut report = |key: String, message: String, help: Option<String>| {
            problems.push(Problem { key, message, help, place: Place::Variable(name.clone()) });
        };
        let (path, shape) = match resolve(&name, table) {
            Ok(found) => found,
            Err(help) => {
                report(String::new(), format!("{name} names no key"), help);
                continue;
            }
        };
        let value = match read(&text, shape) {
            Ok(value) => value,
            Err(message) => {
                report(path.to_string(), message, None);
                overlaid.spoiled.push(path);
                continue;
            }
        };
        let mut flaws = Vec::new();
        let kept = shape.sift(value, &path, TOMBSTONES, &mut flaws);
        for flaw in flaws {
            report(flaw.path.to_string(), flaw.message, flaw.help);
            overlaid.spoiled.push(flaw.path);
        }
        if let Some(value) = kept {
            put(table, path.steps(), value);
            overlaid.taken.push(Variable { name, path });
        }
    }
    overlaid
}

/// The path and shape a name stands for; the error is the name that may have been meant.
fn resolve(name: &str, table: &Table) -> Result<(Path, &'static Shape), Option<String>> {
    let mut path = Path::default();
    let mut shape: &'static Shape = &Raw::SHAPE;
    let mut here = Some(table);
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    for word in rest.split("__") {
        let word = word.to_ascii_lowercase();
        let (key, below) = match shape {
            Shape::Table(fields) => {
                let field = fields.iter().find(|(key, _)| **key == *word);
                let (key, below) = field.ok_or_else(|| meant(name))?;
                ((*key).to_owned(), below)
            }
            Shape::Map(below) if !word.is_empty() => {
                // A variable's name holds no dashes or dots: an entry that is there already lends its own.
                let folded = |key: &&String| fold(key) == fold(&word);
                let known = here.and_then(|table| table.keys().find(folded));
                (known.cloned().unwrap_or(word), *below)
            }
            Shape::Map(_) | Shape::Leaf(_) | Shape::List(_) => return Err(meant(name)),
        };
        here = here.and_then(|table| table.get(&key)).and_then(Value::as_table);
        path = path.key(&key);
        shape = below;
    }
    Ok((path, shape))
}

/// Letters and digits in lower case, all else `_`.
fn fold(key: &str) -> String {
    key.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' }).collect()
}

/// The variable that was probably meant: single underscores for double ones are the usual slip.
fn meant(name: &str) -> Option<String> {
    let mut names = Vec::new();
    collect(&Raw::SHAPE, PREFIX.to_owned(), &mut names);
    let plain = |name: &str| name.replace("__", "_").to_ascii_uppercase();
    let exact = names.iter().find(|known| plain(known) == plain(name)).cloned();
    let near = || nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
    exact.or_else(near).map(|name| format!("did you mean {name}?"))
}

/// All names without entries of the user's own.
fn collect(shape: &Shape, name: String, names: &mut Vec<String>) {
    match shape {
        Shape::Table(fields) => {
            let parent = if name == PREFIX { name } else { format!("{name}__") };
            for (key, below) in *fields {
                collect(below, format!("{parent}{}", key.to_ascii_uppercase()), names);
            }
        }
        Shape::Leaf(_) | Shape::List(_) => names.push(name),
        Shape::Map(_) => {}
    }
}

/// Reads a text as the type its key has. A section, and a list that begins with a bracket, is TOML.
fn read(text: &str, shape: &Shape) -> Result<Value, String> {
    match shape {
        Shape::Leaf(leaf) => {
            let wrong = |expected: &str| format!("{text:?} is not {expected}");
            match leaf.kind {
                Kind::Text => Ok(Value::String(text.to_owned())),
                Kind::Boolean => text.parse().map(Value::Boolean).map_err(|_| wrong("true or false")),
                Kind::Integer => text.parse().map(Value::Integer).map_err(|_| wrong("a whole number")),
                Kind::Float => text.parse().map(Value::Float).map_err(|_| wrong("a number such as 0.1")),
            }
        }
        Shape::List(element) if !text.trim_start().starts_with('[') => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            words.map(|word| read(word, element)).collect::<Result<_, _>>().map(Value::Array)
        }
        Shape::List(_) | Shape::Map(_) | Shape::Table(_) => {
            let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
            let value = parsed.and_then(|mut table| if table.len() == 1 { table.remove("value") } else { None });
            // The text is not shown: it may hold a secret.
            value.ok_or_else(|| "this is not one value of TOML".to_owned())
        }
    }
}

/// Puts a value at a path, over sections that are there.
fn put(table: &mut Table, steps: &[Step], value: Value) {
    let Some((Step::Key(key), below)) = steps.split_first() else { return };
    match (below, table.get_mut(key)) {
        ([], Some(Value::Table(old))) if value.is_table() => {
            if let Value::Table(new) = value {
                super::load::merge(old, new);
            }
        }
        ([], _) => {
            table.insert(key.clone(), value);
        }
        (below, Some(Value::Table(inner))) => put(inner, below, value),
        (below, _) => {
            let mut inner = Table::new();
            put(&mut inner, below, value);
            table.insert(key.clone(), Value::Table(inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlaid(before: &str, variables: &[(&str, &str)]) -> (String, Vec<String>) {
        let mut table = toml::from_str(before).unwrap();
        let mut problems = Vec::new();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        overlay(ours(variables), &mut table, &mut problems);
        let shown = problems
            .into_iter()
            .map(|problem| [problem.key, problem.message, problem.help.unwrap_or_default()].join("|"));
        (toml::to_string(&table).unwrap(), shown.collect())
    }

    #[track_caller]
    fn check(before: &str, variable: (&str, &str), after: &str) {
        let (table, problems) = overlaid(before, &[variable]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(table.trim(), after);
    }

    #[test]
    fn a_variable_has_the_type_of_its_key() {
        check("", ("ENDCAP_WEBHOOK_SECRET", "12345"), "webhook_secret = \"12345\"");
        check("", ("ENDCAP_REDIS__CONNECTIONS", "3"), "[redis]\nconnections = 3");
        check("", ("ENDCAP_LISTEN__H2C", "false"), "[listen]\nh2c = false");
        check("", ("ENDCAP_CACHE__JITTER", "0"), "[cache]\njitter = 0.0");
        check(
            "",
            ("ENDCAP_LISTEN__HOSTS", "a.example, b.example,"),
            "[listen]\nhosts = [\"a.example\", \"b.example\"]",
        );
        check("", ("ENDCAP_LISTEN__HOSTS", " ['a', 'b']"), "[listen]\nhosts = [\"a\", \"b\"]");
        check("[log]\nsample = 1", ("ENDCAP_LOG", "{ level = 'warn' }"), "[log]\nlevel = \"warn\"\nsample = 1");
        check("", ("ENDCAP_UPSTREAM", ""), "");
    }

    #[test]
    fn a_name_of_the_users_own_may_hold_dashes_and_dots() {
        let route = "[route.hero-banners]\nttl = \"1s\"";
        check(route, ("ENDCAP_ROUTE__HERO_BANNERS__TTL", "2s"), "[route.hero-banners]\nttl = \"2s\"");
        let event = "[event.\"product.updated\"]\nhard = []";
        check(event, ("ENDCAP_EVENT__PRODUCT_UPDATED__HARD", "{id}"), "[event.\"product.updated\"]\nhard = [\"{id}\"]");
        check("", ("ENDCAP_HOOKS__ERP__TOLERANCE", "1m"), "[hooks.erp]\ntolerance = \"1m\"");
    }

    #[test]
    fn a_variable_that_names_no_key_is_a_problem_with_advice() {
        for (name, advice) in [
            ("ENDCAP_OPS_TOKEN", "did you mean ENDCAP_OPS__TOKEN?"),
            ("ENDCAP_UPSTREM", "did you mean ENDCAP_UPSTREAM?"),
            ("ENDCAP_REDIS__URI", "did you mean ENDCAP_REDIS__URL?"),
            ("ENDCAP_UPSTREAM__X", "did you mean ENDCAP_UPSTREAM?"),
            ("ENDCAP_", ""),
            ("ENDCAP_ROUTE____TTL", "did you mean ENDCAP_ROUTE_DEFAULTS__TTL?"),
            ("ENDCAP_SOMETHING_ELSE_ALTOGETHER", ""),
        ] {
            let (_, problems) = overlaid("", &[(name, "x")]);
            assert_eq!(problems, [format!("|{name} names no key|{advice}")]);
        }
    }

    #[test]
    fn variables_that_others_inject_are_left_alone() {
        let foreign = [
            "ENDCAP_SERVICE_HOST",
            "ENDCAP_PORT",
            "ENDCAP_PORT_8080_TCP",
            "ENDCAP_CONFIG",
            "HOME",
            "ENDCAP_SERVICE_PORT_HTTP",
        ];
        let (table, problems) = overlaid("", &foreign.map(|name| (name, "tcp://10.0.0.1:8080")));
        assert_eq!((table.as_str(), problems), ("", vec![]));
    }

    #[test]
    fn a_value_that_does_not_fit_is_a_problem_and_is_left_out() {
        for (name, value, message) in [
            ("ENDCAP_LISTEN__H2C", "yes", "listen.h2c|\"yes\" is not true or false|"),
            ("ENDCAP_LOG__SAMPLE", "1.5", "log.sample|\"1.5\" is not a whole number|"),
            (
                "ENDCAP_LISTEN__HEAD_TIMEOUT",
                "30",
                "listen.head_timeout|the duration 30 has no unit: write \"30s\" or \"30ms\"|",
            ),
            ("ENDCAP_LOG", "{", "log|this is not one value of TOML|"),
            ("ENDCAP_LOG", "{}\nupstream = 1", "log|this is not one value of TOML|"),
            ("ENDCAP_LOG", "{ levl = 'x' }", "log.levl|there is no such key|did you mean `level`?"),
        ] {
            let (table, problems) = overlaid("", &[(name, value)]);
            assert_eq!(problems, [message]);
            assert!(!table.contains(value), "{table}");
        }
    }
}
