//! How long each piece of work of a request takes: `cargo bench --package hpc-proxy`.

use criterion::Criterion;

mod works;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for mut work in works::all() {
        criterion.bench_function(work.name, |bencher| bencher.iter(&mut work.once));
    }
    criterion.final_summary();
}
