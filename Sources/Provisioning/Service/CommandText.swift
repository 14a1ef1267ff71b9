import JobCore

/// A command as a dry run shows it: each argument as it is, quoted where a shell would need it, and below it the environment.
package struct CommandText: CustomStringConvertible {
    /// `run PROGRAM ARGUMENT…`, and a line for each variable.
    package let description: String

    /// - Parameter arguments: the program first.
    package init(_ arguments: [String], environment: [String: String] = [:]) {
        let command = "run " + arguments.map(\.shellWord).joined(separator: " ")
        let variables = environment.sorted { $0.key < $1.key }.map { "  \($0.key)=\($0.value.shellWord)" }
        description = ([command] + variables).joined(separator: "\n")
    }
}
