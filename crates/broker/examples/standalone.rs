//! The broker alone: `cargo run -p broker --example standalone -- DATA_DIR [HOST:PORT] [AUTO_CREATE]`. For trying clients on it; ends on
//! SIGINT and SIGTERM.

use std::io::Write;
use std::time::Duration;

use broker::{Broker, Config};
use runtime::Shutdown;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let data_dir = args.next().ok_or("usage: standalone DATA_DIR [HOST:PORT] [AUTO_CREATE]")?;
    let mut config = Config::new(data_dir);
    config.listen = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned()).parse()?;
    config.auto_create_topics = args.next().is_some_and(|flag| flag == "true");
    let broker = Broker::open(config)?;
    writeln!(std::io::stderr(), "listening on {}", broker.handle().addr())?;
    let shutdown = Shutdown::new(Duration::from_secs(10));
    shutdown.stop_at_signals()?;
    broker.run(shutdown).await?;
    Ok(())
}
