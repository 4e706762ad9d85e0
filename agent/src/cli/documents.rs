//! The manual pages and shell completions in deploy/ are those of this command line, and of the configuration with every key.

use std::{env, fs, path::Path};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::Cli;

/// What the command line does not tell of itself.
const REST: &str = include_str!("manual.roff");

fn deploy() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy"))
}

/// Holds a committed file against what it should be.
fn assert_current(file: &str, right: &[u8]) {
    let path = deploy().join(file);
    if env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(&path, right).expect("written");
    }
    let committed = fs::read(&path).unwrap_or_default();
    let is_current = committed == right;
    assert!(
        is_current,
        "deploy/{file} is old; UPDATE_DOCUMENTS=1 cargo test --bin tcpwarden documents writes it anew"
    );
}

/// The command with its subcommands as they call themselves, `tcpwarden-run` and so on.
fn command() -> clap::Command {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

fn page(command: clap::Command, rest: &str) -> Vec<u8> {
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command).source("tcpwarden").manual("tcpwarden");
    let mut page = Vec::new();
    let sections = [Man::render_title, Man::render_name_section, Man::render_synopsis_section];
    let sections = sections.into_iter().chain([Man::render_description_section, Man::render_options_section]);
    for render in sections.chain(has_subcommands.then_some(Man::render_subcommands_section as _)) {
        render(&man, &mut page).expect("memory takes it");
    }
    page.extend_from_slice(rest.as_bytes());
    page
}

#[test]
fn the_manual_of_each_command() {
    let command = command();
    for sub in command.get_subcommands() {
        let name = sub.get_display_name().expect("a built command has one");
        let see_also = ".SH \"SEE ALSO\"\n.BR tcpwarden (1),\n.BR tcpwarden.toml (5)\n";
        assert_current(&format!("man/{name}.1"), &page(sub.clone(), see_also));
    }
    assert_current("man/tcpwarden.1", &page(command, REST));
}

#[test]
fn the_completions_of_each_shell() {
    for (shell, file) in
        [(Shell::Bash, "tcpwarden.bash"), (Shell::Zsh, "_tcpwarden"), (Shell::Fish, "tcpwarden.fish")]
    {
        let mut script = Vec::new();
        generate(shell, &mut Cli::command(), "tcpwarden", &mut script);
        assert_current(&format!("completions/{file}"), &script);
    }
}

/// Comments become text; keys, and examples within comments, are set as they are typed.
#[test]
fn the_manual_of_the_configuration() {
    let config = fs::read_to_string(deploy().join("tcpwarden.toml")).expect("the configuration is there");
    let mut roff = Roff::new();
    roff.control("TH", ["tcpwarden.toml", "5", "", "tcpwarden", "tcpwarden"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("tcpwarden.toml - configuration of tcpwarden")]);
    roff.control("SH", ["DESCRIPTION"]);
    let mut inside = false;
    for line in config.lines() {
        let commented = line.strip_prefix('#').map(str::trim_start);
        let text = commented.unwrap_or(line);
        let is_example = !text.is_empty() && (commented.is_none() || is_toml(text));
        if is_example != inside {
            roff.control(if is_example { "EX" } else { "EE" }, []);
            inside = is_example;
        }
        match text {
            "" => roff.control("PP", []),
            _ if is_example => roff.text([bold(line)]),
            _ => roff.text([roman(text)]),
        };
    }
    roff.control("SH", ["FILES"]);
    roff.text([roman("/etc/tcpwarden/tcpwarden.toml")]);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("tcpwarden"), roman("(1)")]);
    assert_current("man/tcpwarden.toml.5", roff.to_roff().as_bytes());
}

/// A table's head, or a key with its value.
fn is_toml(line: &str) -> bool {
    let key = line.split_once(" = ").map(|(key, _)| key);
    line.starts_with('[')
        || key.is_some_and(|key| key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')))
}

#[test]
fn the_changelog_of_the_package_begins_with_this_version() {
    let changelog = fs::read_to_string(deploy().join("debian/changelog")).expect("the changelog is there");
    let right = concat!("tcpwarden (", env!("CARGO_PKG_VERSION"), "-1) ");
    assert!(changelog.starts_with(right), "deploy/debian/changelog does not begin with {right}");
}
