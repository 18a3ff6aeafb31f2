//! Decodes events from a file: a program that uses the protocol alone.

use oh_protocol::{Event, Payload};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: layer FILE")?;
    for line in std::fs::read_to_string(path)?.lines() {
        let event = Event::from_json(line.to_owned())?;
        match event.payload() {
            Payload::Message(message) => println!("{}", message.llm_message.text()),
            _ => println!("{event}"),
        }
    }
    Ok(())
}
