//! The whole input is a file of manifests, once as YAML and once as JSON. It is read or refused;
//! what is read, written in its normal form, is read again as the same manifest; problems stand at
//! lines that the file has.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use resources::{Manifest, Origin, Spec, folder};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    for path in ["manifest.yaml", "manifest.json"] {
        match folder([(path, text)]) {
            Ok(manifests) => manifests.iter().for_each(|placed| {
                let manifest = &placed.manifest;
                let value = manifest.to_value();
                let again = Manifest::decode(&value, Origin::File);
                assert_eq!(again.as_ref(), Ok(manifest), "{value}");
                if let Spec::Transform(transform) = &manifest.spec {
                    let _ = transform.content_hash();
                }
            }),
            Err(problems) => {
                assert!(!problems.is_empty());
                // YAML's line ends, and one more for what is missing at the end.
                let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
                for problem in problems {
                    assert!(!problem.to_string().is_empty());
                    if let Some(line) = problem.place.line {
                        assert!((1..=lines as u64).contains(&line), "{problem}: {lines} lines");
                    }
                }
            }
        }
    }
    Corpus::Keep
});
