//! Runs the intraday detector over the series of the Numenta Anomaly Benchmark (not in this repository), one
//! detections file per series:
//!
//! ```sh
//! cargo run --release -p bellwether-core --example nab -- --data DIR --out DIR
//! ```
//!
//! `--data` holds `data/<folder>/<series>.csv`, or `.csv.gz`, with the columns timestamp and value. A row's score is 0 within the
//! quiet period of an earlier and higher one. Labels are not read.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bellwether_core::intraday::{STATE_BYTES_MAX, Settings, Watch};
use bellwether_core::time::Millis;
use flate2::read::MultiGzDecoder;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Row {
    timestamp: String,
    at: Millis,
    value: f64,
}

fn main() -> Outcome<()> {
    let (data, out) = arguments()?;
    let (mut series, mut rows, mut alerts, mut spent) = (0, 0, 0, Duration::ZERO);
    for folder in sorted_entries(&data.join("data"))?.into_iter().filter(|path| path.is_dir()) {
        for file in sorted_entries(&folder)? {
            let name = file.to_string_lossy().trim_end_matches(".gz").to_owned();
            if !name.ends_with(".csv") {
                continue;
            }
            let name = Path::new(&name).strip_prefix(data.join("data"))?.to_path_buf();
            let samples = read(&file)?;
            let (scores, series_alerts, took) = judge(&samples);
            write(&out.join(name), &samples, &scores)?;
            series += 1;
            rows += samples.len();
            alerts += series_alerts;
            spent += took;
        }
    }
    let each_ns = spent.as_nanos() / (rows.max(1) as u128);
    println!("{series} series, {rows} rows, {alerts} alerts at the default threshold");
    println!("{each_ns} ns per event; at most {STATE_BYTES_MAX} bytes of state per series");
    let (data, out) = (data.display(), out.display());
    let default = Settings::default().alert_score;
    println!("score with: python nab_score.py score --data {data} --detections {out}");
    println!("and at the default threshold: ... --threshold {default}");
    Ok(())
}

fn arguments() -> Outcome<(PathBuf, PathBuf)> {
    let (mut data, mut out) = (None, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let folder = words.next().map(PathBuf::from);
        match word.as_str() {
            "--data" => data = folder,
            "--out" => out = folder,
            _ => return Err(format!("unknown argument {word}: use --data DIR --out DIR").into()),
        }
    }
    data.zip(out).ok_or_else(|| "use --data DIR --out DIR".into())
}

fn sorted_entries(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Outcome<Vec<Row>> {
    let file = File::open(path)?;
    let input: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut rows = Vec::new();
    for line in BufReader::new(input).lines().skip(1) {
        let line = line?;
        let broken = || format!("{}: not a timestamp and a value: {line}", path.display());
        let (timestamp, value) = line.split_once(',').ok_or_else(broken)?;
        let at = Millis::parse(&format!("{}Z", timestamp.replace(' ', "T"))).ok_or_else(broken)?;
        let value = value.trim().parse().map_err(|_| broken())?;
        rows.push(Row { timestamp: timestamp.to_owned(), at, value });
    }
    Ok(rows)
}

/// Scores of peaks, 0 for the rest; the number of alerts; and the time it took.
#[expect(clippy::disallowed_methods, reason = "a measurement of run time, outside of the core")]
fn judge(rows: &[Row]) -> (Vec<f64>, usize, Duration) {
    let (mut watch, settings) = (Watch::default(), Settings::default());
    let begun = Instant::now();
    let verdicts: Vec<_> = rows.iter().map(|row| watch.see(row.at, row.value, &settings)).collect();
    let took = begun.elapsed();
    let alerts = verdicts.iter().filter(|verdict| verdict.alert).count();
    let scores = verdicts.iter().map(|verdict| if verdict.peak { verdict.score } else { 0.0 });
    (scores.collect(), alerts, took)
}

fn write(path: &Path, rows: &[Row], scores: &[f64]) -> Outcome<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "timestamp,anomaly_score")?;
    for (row, score) in rows.iter().zip(scores) {
        writeln!(file, "{},{score}", row.timestamp)?;
    }
    file.flush()?;
    Ok(())
}
