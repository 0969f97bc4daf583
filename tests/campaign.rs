//! A short campaign through the command line: real stations, faults, a table.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_short_campaign_flies_real_stations_is_safe_and_writes_its_table() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("campaign");
    let done = Command::new(env!("CARGO_BIN_EXE_aerie"))
        .args(["sim", "campaign", "--sorties", "4", "--seed", "1", "--parallel", "4", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}");
    let table = std::fs::read_to_string(out.join("campaign.md")).unwrap();
    assert!(table.contains("**Unsafe: 0.**"), "{table}");
    let data: Value = serde_json::from_str(&std::fs::read_to_string(out.join("campaign.json")).unwrap()).unwrap();
    let outcomes: Vec<_> = data["flown"].as_array().unwrap().iter().map(|f| f["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes.len(), 4, "{table}");
    // The first has wind before the command; of the others at least one was in the air, or nothing was measured here.
    assert_eq!(outcomes[0], "stayed_down", "{table}");
    assert!(data["flown"].as_array().unwrap().iter().any(|f| f["command_to_air_s"].is_number()), "{table}");
}
