//! How a report is printed.

use crate::Failure;
use serde::Serialize;

/// Prints a row a field, or one JSON object.
pub(crate) fn print(report: &impl Serialize, json: bool) -> Result<(), Failure> {
    let value = serde_json::to_value(report)?;
    if json {
        println!("{value}");
        return Ok(());
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match value.as_f64().filter(|_| value.is_f64()) {
            Some(number) => println!("{name:<28} {number:>14.2}"),
            None => println!("{name:<28} {value:>14}"),
        }
    }
    Ok(())
}
