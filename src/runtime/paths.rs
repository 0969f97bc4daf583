//! Where aerie finds what came with it: beside the binary when installed, in the checkout when built there.

use std::path::{Path, PathBuf};

/// The daemon alone, see [`aerie`].
const STATION: &str = "aerie-station";

#[derive(Debug, thiserror::Error)]
pub enum MissingPiece {
    #[error(
        "ONNX Runtime was not found (looked in: {looked}); run `make setup` in the checkout, or name libonnxruntime.so in AERIE_ONNXRUNTIME"
    )]
    OnnxRuntime { looked: String },
}

/// The program with all of aerie's commands, which the perception children are: this one, or, of a station that is linked
/// without OpenCV, the one beside it (a checkout) or in `bin` (installed).
pub fn aerie() -> std::io::Result<PathBuf> {
    Ok(aerie_of(std::env::current_exe()?))
}

fn aerie_of(exe: PathBuf) -> PathBuf {
    if exe.file_name().is_none_or(|name| name != STATION) {
        return exe;
    }
    let beside = exe.with_file_name("aerie");
    if beside.is_file() {
        return beside;
    }
    exe.ancestors().nth(3).map_or(beside, |root| root.join("bin/aerie"))
}

/// The ONNX Runtime library: `AERIE_ONNXRUNTIME`, then installed, then in the checkout.
pub fn onnxruntime() -> Result<PathBuf, MissingPiece> {
    let mut looked = Vec::new();
    if let Some(named) = std::env::var_os("AERIE_ONNXRUNTIME") {
        looked.push(PathBuf::from(named));
    } else {
        looked.extend(roots().into_iter().flat_map(|root| {
            [root.join("lib/aerie/libonnxruntime.so"), root.join(".deps/onnxruntime/libonnxruntime.so")]
        }));
    }
    match looked.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => {
            let looked: Vec<_> = looked.iter().map(|path| path.display().to_string()).collect();
            Err(MissingPiece::OnnxRuntime { looked: looked.join(", ") })
        }
    }
}

/// The model that came with aerie; the path to look at even when it is absent, so that errors can name it.
pub fn default_model_dir() -> PathBuf {
    let candidates: Vec<_> = roots()
        .into_iter()
        .flat_map(|root| [root.join("share/aerie/models/default"), root.join("models/default")])
        .collect();
    candidates
        .iter()
        .find(|dir| dir.join("manifest.toml").is_file())
        .or(candidates.first())
        .cloned()
        .unwrap_or_else(|| PathBuf::from("models/default"))
}

/// `/usr` for `/usr/bin/aerie`; the checkout for `CHECKOUT/target/release/aerie`; and the working directory.
fn roots() -> Vec<PathBuf> {
    let exe = std::env::current_exe().and_then(|exe| exe.canonicalize()).unwrap_or_default();
    let mut roots: Vec<PathBuf> = exe.ancestors().skip(1).take(5).map(Path::to_owned).collect();
    roots.extend(std::env::current_dir());
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_without_opencv_finds_the_program_with_it_in_a_checkout_and_installed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for program in
            ["target/release/aerie", "target/release/aerie-station", "usr/bin/aerie", "usr/lib/aerie/aerie-station"]
        {
            std::fs::create_dir_all(at(program).parent().unwrap()).unwrap();
            std::fs::write(at(program), "").unwrap();
        }
        assert_eq!(aerie_of(at("target/release/aerie-station")), at("target/release/aerie"));
        assert_eq!(aerie_of(at("usr/lib/aerie/aerie-station")), at("usr/bin/aerie"));
        assert_eq!(aerie_of(at("usr/bin/aerie")), at("usr/bin/aerie"));
    }
}
