package import JobCore

extension ScriptResult {
    /// How it ended, in words; nil when all is well.
    package var complaint: String? {
        switch (cause, termination) {
        case (.timeLimit, _): "was ended after its time limit"
        case (.cancellation, _): "was ended because the daemon stops"
        case (.itself, .exited(code: 0)): nil
        case (.itself, .exited(let code)): "ended with exit code \(code)"
        case (.itself, .signaled(let number)): "was killed by signal \(number)"
        }
    }

    /// The end of what it wrote, as text for a message.
    package var outputTail: String {
        let bytes =
            output.tail.isEmpty ? output.head : output.head.suffix(max(0, 2000 - output.tail.count)) + output.tail
        let text = String(decoding: bytes.suffix(2000), as: UTF8.self)
        let scalars = text.unicodeScalars.map {
            OneLine.mustBeEscaped($0) && $0 != "\n" && $0 != "\t" ? "\u{fffd}" : $0
        }
        return String(String.UnicodeScalarView(scalars))
    }
}

extension String {
    /// A value of an entry for a message: in quotation marks, since blanks at its ends and control characters would not be seen, and cut, since it
    /// may be of any length.
    package var quotedValue: String { String(reflecting: OneLine.cut(self, to: 200)) }
}

extension Unicode.Scalar {
    /// C0, DEL and C1, and the two separators that some programs take for a line's end.
    package var isControl: Bool {
        value < 0x20 || (0x7f...0x9f).contains(value) || value == 0x2028 || value == 0x2029
    }
}

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
