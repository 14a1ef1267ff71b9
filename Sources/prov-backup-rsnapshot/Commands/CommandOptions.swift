import ArgumentParser
import Daemon

/// How a command shows what it was asked for.
struct OutputOptions: ParsableArguments {
    @Flag(help: "As JSON, one object a line.") var json = false

    /// Prints a value, as text or as a line of JSON.
    func show(_ value: some Encodable, _ text: @autoclosure () -> String) throws {
        if json { try printJSON(value) } else { print(text()) }
    }
}

/// The account that a command is about.
struct AccountArgument: ParsableArguments {
    @OptionGroup var files: SettingsOptions
    @Argument(help: "The account's uid.") var uid: String
}

/// The job that a command is about.
struct JobArgument: ParsableArguments {
    @OptionGroup var files: SettingsOptions
    @Argument(help: "The job's number.") var id: UInt64
}

/// What is told while jobs are carried out by this very process.
struct LogOptions: ParsableArguments {
    @Flag(name: [.customShort("d"), .customLong("debug")], help: "Print every log line to the terminal.")
    var isDebugging = false
}
