//! Man pages and shell completions of a program, as a package ships them.

use clap::Command;
use clap_complete::{Shell, generate_to};
use std::io;
use std::path::Path;

/// Writes `NAME.1` and a page for each subcommand below `man1`, completions for bash, zsh and fish below `completions`.
///
/// # Errors
/// If a folder cannot be made or a file cannot be written.
pub fn write(command: Command, folder: &Path) -> io::Result<()> {
    let (pages, completions) = (folder.join("man1"), folder.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    let mut command = command.disable_help_subcommand(true);
    clap_mangen::generate_to(command.clone(), &pages)?;
    let name = command.get_name().to_string();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, &name, &completions)?;
    }
    Ok(())
}
