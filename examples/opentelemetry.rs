//! OpenTelemetry: each request as a span in the trace of a job, and the duration of requests as a
//! metric.
//!
//! Run it with `cargo run -p openhands-examples --example opentelemetry`. It uses the fake server,
//! so it needs neither Python nor a model. The exporters keep what they get in memory; a program
//! uses those of `opentelemetry-otlp` instead.

use openhands::{
    prelude::*,
    testkit::{FakeServer, Script},
};
use openhands_examples::Result;
use opentelemetry::{KeyValue, metrics::MeterProvider as _, trace::TracerProvider as _};
use opentelemetry_sdk::{
    metrics::{InMemoryMetricExporter, SdkMeterProvider},
    trace::{InMemorySpanExporter, SdkTracerProvider},
};
use tracing::Instrument as _;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _};

#[tokio::main]
async fn main() -> Result {
    // 1. Providers. With OTLP: `opentelemetry_otlp::SpanExporter::builder().with_http().build()?`
    //    and `with_batch_exporter`.
    let spans = InMemorySpanExporter::default();
    let traces = SdkTracerProvider::builder()
        .with_simple_exporter(spans.clone())
        .build();
    let numbers = InMemoryMetricExporter::default();
    let metrics = SdkMeterProvider::builder()
        .with_periodic_exporter(numbers.clone())
        .build();

    // 2. Spans: the filter selects those of requests. `openhands::server=info` would add the log of
    //    a local server.
    let filter = EnvFilter::new("warn,oh_transport=debug,opentelemetry=info");
    let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer("hello-agent"));
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    tracing::subscriber::set_global_default(subscriber)?;

    // 3. Metrics: the client calls a function after each attempt of a request.
    let meter = metrics.meter("hello-agent");
    let durations = meter
        .f64_histogram("openhands.request.duration")
        .with_unit("s")
        .build();
    let server = FakeServer::builder()
        .script(Script::new().finish("Done."))
        .start()
        .await?;
    let client = Client::builder(server.url())
        .session_api_key(server.session_api_key())
        .on_attempt(move |attempt| {
            // The route contains no values, so the number of series is limited.
            let labels = [
                KeyValue::new("route", attempt.operation.route),
                KeyValue::new("failed", attempt.failure.is_some()),
            ];
            durations.record(attempt.elapsed.as_secs_f64(), &labels);
        })
        .build()?;

    // 4. A job is a span of the program. The spans of its requests are children of it.
    let span = tracing::info_span!(target: "opentelemetry", "job", id = 7);
    job(&client).instrument(span).await?;

    traces.force_flush()?;
    metrics.force_flush()?;
    let spans = spans.get_finished_spans()?;
    let job = spans
        .iter()
        .find(|span| span.name == "job")
        .ok_or("no job")?;
    let calls = spans.iter().filter(|span| span.name == "call");
    let (within, others): (Vec<_>, Vec<_>) =
        calls.partition(|span| span.span_context.trace_id() == job.span_context.trace_id());
    for call in &within {
        let text = |name| {
            call.attributes
                .iter()
                .find(|pair| pair.key.as_str() == name)
        };
        let route = text("route").map(|pair| pair.value.to_string());
        println!("{}", route.unwrap_or_default());
    }
    println!(
        "{} requests in the job, {} others",
        within.len(),
        others.len()
    );
    let recorded = numbers.get_finished_metrics()?;
    let names = recorded
        .iter()
        .flat_map(|resource| resource.scope_metrics());
    let names = names
        .flat_map(|scope| scope.metrics())
        .map(|metric| metric.name());
    match names.collect::<Vec<_>>().as_slice() {
        [name, ..] if !within.is_empty() => println!("metric: {name}"),
        names => return Err(format!("missing: {names:?}, {} spans", spans.len()).into()),
    }
    Ok(())
}

async fn job(client: &Client) -> Result {
    let agent = Agent::default_preset(Llm::new("openai/scripted").api_key("unused"));
    let workspace = Workspace::new(client, "/project");
    let conversation = Conversation::builder(&workspace, agent).start().await?;
    conversation.send("Do it.").await?;
    println!("{}", conversation.run().await?.ensure_finished()?);
    conversation.close().await?;
    Ok(())
}

#[cfg(test)]
#[test]
fn requests_of_a_job_are_in_its_trace() -> Result {
    main()
}
