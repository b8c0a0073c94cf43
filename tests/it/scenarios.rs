//! Runs `tests/scenarios/*.scn`: what is visible on the wire, readable without the code.
//!
//! A line that is not indented is a step; the lines indented under it belong to it. Steps:
//!
//! ```text
//! config                        the configuration file, indented; once, at the top; the preset for Medusa if left out
//! origin PATH                   what PATH is answered from now on: `status N`, header lines, and the body from the first
//!                               line that begins with `{` or `[`
//! origin PATH fails             the connection breaks
//! client METHOD TARGET          sends a request with the header lines below it
//! expect                        of the last answer: `status N`, `body TEXT`, `NAME: VALUE` (`NAME:` for absent),
//!                               `detail WORD` (the end of Cache-Status); `origin_requests N`; `origin_target T`
//! await N                       waits until the origin has had N requests and all fills have landed
//! purge MODE TAG…               purges by hand
//! advance 130s                  moves the clock
//! ```

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::stage::{Answer, Builder, MEDUSA, Reply, Stage};

/// A step and the lines that belong to it, with their numbers.
#[derive(Debug)]
struct Block<'s> {
    line: usize,
    words: Vec<&'s str>,
    below: Vec<(usize, &'s str)>,
}

/// What is wrong, at a line.
struct Wrong {
    line: usize,
    what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

fn wrong<T>(line: usize, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { line, what: what.into() })
}

fn parse(text: &str) -> Result<Vec<Block<'_>>, Wrong> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        if content.starts_with('#') {
            continue;
        }
        match (content.strip_prefix("    "), blocks.last_mut()) {
            (Some(below), Some(block)) => block.below.push((line, below.trim_end())),
            (Some(_), None) => return wrong(line, "an indented line belongs to a step, and there is none above"),
            (None, Some(block)) if content.trim().is_empty() => block.below.push((line, "")),
            (None, _) if content.trim().is_empty() => {}
            (None, _) if content.starts_with([' ', '\t']) => return wrong(line, "indent by four spaces"),
            (None, _) => blocks.push(Block { line, words: content.split_whitespace().collect(), below: Vec::new() }),
        }
    }
    for block in &mut blocks {
        // Empty lines between steps belong to nobody.
        while block.below.last().is_some_and(|(_, content)| content.is_empty()) {
            block.below.pop();
        }
    }
    Ok(blocks)
}

fn number<T: std::str::FromStr>(line: usize, word: &str) -> Result<T, Wrong> {
    word.parse().or_else(|_| wrong(line, format!("{word:?} is not a number")))
}

fn field(line: usize, content: &str) -> Result<(&str, &str), Wrong> {
    match content.split_once(':') {
        Some((name, value)) if !name.contains(' ') => Ok((name, value.trim())),
        _ => wrong(line, format!("{content:?} is not `name: value`")),
    }
}

fn answer(block: &Block<'_>) -> Result<Answer, Wrong> {
    let end = block.below.iter().position(|(_, content)| content.starts_with(['{', '[']));
    let (head, body) = block.below.split_at(end.unwrap_or(block.below.len()));
    let body: Vec<&str> = body.iter().map(|(_, content)| *content).collect();
    let mut answer = Answer::json(body.join("\n"));
    for (line, content) in head.iter().filter(|(_, content)| !content.is_empty()) {
        answer = match content.strip_prefix("status ") {
            Some(status) => answer.with_status(number(*line, status)?),
            None => {
                let (name, value) = field(*line, content)?;
                answer.header(name, value)
            }
        };
    }
    Ok(answer)
}

fn builder(blocks: &[Block<'_>]) -> Builder {
    match blocks.first() {
        Some(block) if block.words == ["config"] => {
            let lines: Vec<&str> = block.below.iter().map(|(_, content)| *content).collect();
            Stage::new().config(&(lines.join("\n") + "\n"))
        }
        _ => Stage::new().config(MEDUSA),
    }
}

/// What a scenario has seen so far.
struct Run {
    stage: Stage,
    last: Option<Reply>,
}

impl Run {
    async fn step(&mut self, block: &Block<'_>) -> Result<(), Wrong> {
        let stage = &self.stage;
        let line = block.line;
        match block.words[..] {
            ["config"] if line > 0 => {}
            ["origin", path] => stage.origin.answer(path, answer(block)?),
            ["origin", path, "fails"] => stage.origin.answer(path, Answer::reset()),
            ["client", method, target] => {
                let headers = block.below.iter().map(|(line, content)| field(*line, content));
                let headers = headers.collect::<Result<Vec<_>, _>>()?;
                self.last = Some(stage.ask(method, target, &headers, b"").await);
            }
            ["expect"] => {
                for (line, content) in block.below.iter().filter(|(_, content)| !content.is_empty()) {
                    self.expect(*line, content)?;
                }
            }
            ["await", count] => {
                stage.origin.asked(number(line, count)?).await;
                stage.settled(0).await;
            }
            ["purge", mode @ ("hard" | "soft" | "delete"), ref tags @ ..] if !tags.is_empty() => {
                stage.purge(mode, tags).await;
            }
            ["advance", time] => match time.strip_suffix("ms") {
                Some(millis) => stage.advance(Duration::from_millis(number(line, millis)?)),
                None => match time.strip_suffix('s') {
                    Some(seconds) => stage.advance_secs(number(line, seconds)?),
                    None => return wrong(line, "a time is `130s` or `100ms`"),
                },
            },
            _ => {
                return wrong(
                    line,
                    format!("{:?} is no step; tests/it/scenarios.rs lists them", block.words.join(" ")),
                );
            }
        }
        Ok(())
    }

    fn expect(&self, line: usize, content: &str) -> Result<(), Wrong> {
        let origin = &self.stage.origin;
        let (word, rest) = content.split_once(' ').unwrap_or((content, ""));
        let Some(last) = &self.last else { return wrong(line, "no request was sent yet") };
        let found = match word {
            "status" => last.status.to_string(),
            "body" => last.text().trim_end().to_owned(),
            "detail" => last.detail(),
            "origin_requests" => origin.total().to_string(),
            "origin_target" => origin.seen().last().map_or(String::new(), |seen| seen.target.clone()),
            _ => {
                let (name, expected) = field(line, content)?;
                let found = last.field(name);
                return if found == expected { Ok(()) } else { wrong(line, format!("{name} is {found:?}")) };
            }
        };
        if found == rest { Ok(()) } else { wrong(line, format!("{word} is {found:?}, expected {rest:?}")) }
    }
}

async fn run(text: &str) -> Result<(), Wrong> {
    let blocks = parse(text)?;
    if let Some(late) = blocks.iter().skip(1).find(|block| block.words == ["config"]) {
        return wrong(late.line, "`config` comes first");
    }
    let mut run = Run { stage: builder(&blocks).start().await, last: None };
    for block in &blocks {
        run.step(block).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_scenario_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "scn")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        if let Err(wrong) = run(&std::fs::read_to_string(file).unwrap()).await {
            problems.push(format!("tests/scenarios/{name}:{wrong}"));
        }
    }
    assert!(files.len() > 10, "the scenarios were not found");
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[tokio::test]
async fn a_mistake_in_a_scenario_is_named_with_its_line() {
    for (text, expected) in [
        ("    status 200\n", "1: an indented line belongs to a step, and there is none above"),
        ("client GET /\n  x: y\n", "2: indent by four spaces"),
        ("\n# why\nclinet GET /\n", "3: \"clinet GET /\" is no step; tests/it/scenarios.rs lists them"),
        ("expect\n    status 200\n", "2: no request was sent yet"),
        ("client GET /\n    x y\n", "2: \"x y\" is not `name: value`"),
        ("client GET /\nexpect\n    status two\n", "3: status is \"200\", expected \"two\""),
        ("origin /a\n    status many\n", "2: \"many\" is not a number"),
        ("advance 5\n", "1: a time is `130s` or `100ms`"),
        ("purge gently x\n", "1: \"purge gently x\" is no step; tests/it/scenarios.rs lists them"),
        ("client GET /\nconfig\n", "2: `config` comes first"),
    ] {
        let wrong = run(text).await.err().map(|wrong| wrong.to_string());
        assert_eq!(wrong.as_deref(), Some(expected), "{text:?}");
    }
}
