//! `dragonfly-guard completions` and `dragonfly-guard man`: for packagers and shells.

use crate::failure::Failure;
use crate::filter::Verdict;
use crate::output::write;
use clap::{Args, Command};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use std::io;

/// The arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    /// Writes the completions of a command for a shell.
    pub fn run(&self, mut command: Command) -> Result<Verdict, Failure> {
        let mut text = Vec::new();
        generate(self.shell, &mut command, "dragonfly-guard", &mut text);
        write(None, &String::from_utf8_lossy(&text))?;
        Ok(Verdict::Clean)
    }
}

/// Writes the man page: that of the program, then a part for each command.
pub fn man(command: Command) -> Result<Verdict, Failure> {
    let mut command = command.disable_help_subcommand(true);
    // What the commands have from the program, such as --help, is theirs after this.
    command.build();
    let mut text = Vec::new();
    page(&command, &mut text)
        .map_err(|error| Failure::new("could not write the man page").detail(error.to_string()))?;
    write(None, &String::from_utf8_lossy(&text))?;
    Ok(Verdict::Clean)
}

fn page(command: &Command, text: &mut Vec<u8>) -> io::Result<()> {
    Man::new(command.clone()).render(text)?;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        let man = Man::new(subcommand.clone());
        text.extend(format!(".SH \"COMMAND {}\"\n", subcommand.get_name().to_uppercase()).bytes());
        man.render_description_section(text)?;
        man.render_options_section(text)?;
    }
    Ok(())
}
