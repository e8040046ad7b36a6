//! `vltava config check`: what would hold. Opens nothing.

use anyhow::Result;
use serde_json::json;

use crate::cli::SettingsFlags;
use crate::output::{self, Rows};
use crate::settings::{Settings, Sources};

/// Reads file, environment and flags, in this order.
pub(crate) fn sources(flags: &SettingsFlags) -> Sources {
    let SettingsFlags { config, kafka_bootstrap, http, broker, metrics, log } = flags.clone();
    Sources::default()
        .file_at(config.as_deref())
        .environment(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )
        .flag("kafka.bootstrap", "--kafka-bootstrap", kafka_bootstrap)
        .flag("http.listen", "--http", http)
        .flag("broker.listen", "--broker", broker)
        .flag("metrics.listen", "--metrics", metrics)
        .flag("log.filter", "--log", log)
}

pub(crate) fn run(flags: &SettingsFlags, json: bool) -> Result<()> {
    let Settings {
        env,
        data_dir,
        http,
        auth_mode,
        auth_algorithm,
        metrics,
        broker,
        broker_advertised,
        flush,
        auto_create_topics,
        kafka_bootstrap,
        instance,
        stop_grace,
        log_format,
        log_filter,
    } = sources(flags).settings()?;
    let unset = || String::from("-");
    let rows = [
        ("env", env),
        ("data_dir", data_dir.display().to_string()),
        ("http.listen", http.to_string()),
        ("auth.mode", format!("{auth_mode:?}").to_lowercase()),
        ("auth.algorithm", auth_algorithm.as_str().into()),
        ("metrics.listen", metrics.to_string()),
        ("broker.listen", if kafka_bootstrap.is_some() { "off".into() } else { broker.to_string() }),
        ("broker.advertised", broker_advertised.unwrap_or_else(unset)),
        ("broker.flush", format!("{flush:?}").to_lowercase()),
        ("broker.auto_create_topics", auto_create_topics.to_string()),
        ("kafka.bootstrap", kafka_bootstrap.unwrap_or_else(unset)),
        ("instance", instance.to_string()),
        ("stop.grace_ms", stop_grace.as_millis().to_string()),
        ("log.format", format!("{log_format:?}").to_lowercase()),
        ("log.filter", log_filter),
    ];
    if json {
        let object: serde_json::Map<_, _> =
            rows.iter().map(|(name, value)| ((*name).into(), json!(value))).collect();
        return output::json(&object);
    }
    let mut table = Rows::new(&["setting", "value"]);
    rows.into_iter().for_each(|(name, value)| table.row(vec![name.into(), value]));
    table.print();
    Ok(())
}
