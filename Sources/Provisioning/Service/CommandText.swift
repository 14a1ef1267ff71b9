/// A command as a dry run shows it: each argument as it is, quoted where a shell would need it, and below it the environment.
package struct CommandText: CustomStringConvertible {
    /// `run PROGRAM ARGUMENT…`, and a line for each variable.
    package let description: String

    /// - Parameter arguments: the program first.
    package init(_ arguments: [String], environment: [String: String] = [:]) {
        let command = "run " + arguments.map(Self.quoted).joined(separator: " ")
        let variables = environment.sorted { $0.key < $1.key }.map { "  \($0.key)=\(Self.quoted($0.value))" }
        description = ([command] + variables).joined(separator: "\n")
    }

    private static func quoted(_ text: String) -> String {
        let plain = text.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0)
                || "/._-+=@,:".utf8.contains($0)
        }
        return plain && !text.isEmpty
            ? text
            : "'"
                + text.split(separator: "'", omittingEmptySubsequences: false)
                .joined(separator: "'\\''") + "'"
    }
}
