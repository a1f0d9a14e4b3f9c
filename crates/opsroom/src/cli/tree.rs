//! From the operations to commands: `get_job` becomes `opsroom get-job ID`, and its fields flags.

use clap::{Arg, ArgAction, ArgMatches, Command};
use opsroom_core::{Effect, Operation};
use serde_json::{Map, Value};

/// Adds a command for each operation. A fixed command of the same name stays: it is the same operation,
/// shown for a terminal.
pub fn add(root: Command, operations: &[Operation]) -> Command {
    operations.iter().fold(root, |root, operation| match root.find_subcommand(command_name(operation)) {
        Some(_) => root,
        None => root.subcommand(command(operation)),
    })
}

/// The name of an operation's command.
pub fn command_name(operation: &Operation) -> String {
    operation.name.replace('_', "-")
}

fn command(operation: &Operation) -> Command {
    let about = operation.summary().trim_end_matches('.').to_owned();
    let mut long = operation.description().to_owned();
    if operation.effect != Effect::Read {
        long.push_str(&format!(
            "\n\nNeeds the role {}; is recorded in the audit trail.",
            operation.role.as_str()
        ));
    }
    let in_path: Vec<&str> = operation.route.parameters().collect();
    let command = Command::new(command_name(operation)).about(about).long_about(long);
    let command = if operation.is_pictured() { command.arg(output()) } else { command };
    operation.fields().fold(command, |command, (name, schema)| {
        let positional = in_path.contains(&name.as_str());
        command.arg(argument(name, schema, positional, operation.requires(name)))
    })
}

/// The flag of operations whose answers speak of a picture.
pub const OUTPUT: &str = "output";

fn output() -> Arg {
    let help = "Write the picture to this file";
    Arg::new(OUTPUT).long(OUTPUT).value_name("FILE").help(help)
}

fn argument(name: &str, schema: &Value, positional: bool, required: bool) -> Arg {
    let help = schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let argument = Arg::new(name.to_owned()).help(help).required(required || positional);
    if positional {
        return argument.value_name(name.to_ascii_uppercase());
    }
    let argument = argument.long(name.replace('_', "-"));
    let is = |kind: &str| match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    };
    if is("boolean") {
        argument.num_args(0..=1).default_missing_value("true").value_name("true|false")
    } else if is("array") {
        argument.action(ArgAction::Append).value_name("VALUE")
    } else if is("object") {
        argument.value_name("JSON")
    } else if is("integer") || is("number") {
        argument.value_name("N").allow_negative_numbers(true)
    } else {
        argument.value_name("TEXT").allow_hyphen_values(true)
    }
}

/// The input that the flags say.
pub fn input(operation: &Operation, matches: &ArgMatches) -> Map<String, Value> {
    let pairs = operation.fields().flat_map(|(name, _)| {
        let values = matches.get_many::<String>(name).into_iter().flatten();
        values.map(|value| (name.clone(), value.clone())).collect::<Vec<_>>()
    });
    operation.from_pairs(pairs)
}
