import SystemPackage

/// Text from elsewhere as one word of a command that a person copies into a shell.
private enum ShellWord {
    /// As it is where a shell sees nothing in it; else in single quotes; and where a terminal or a reader could see something else than what is
    /// there, or where it is no text, byte by byte in `$'…'` (bash, zsh, ksh, POSIX 2024).
    static func quoted(_ bytes: [UInt8]) -> String {
        guard let text = String(validating: bytes, as: UTF8.self),
            !text.unicodeScalars.contains(where: OneLine.mustBeEscaped)
        else { return "$'" + bytes.map(escaped).joined() + "'" }
        guard text.isEmpty || !bytes.allSatisfy(isPlain) else { return text }
        return "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch Unicode.Scalar(byte) {
        case "a"..."z", "A"..."Z", "0"..."9", "/", ".", "_", "-", "+", "=", ":", ",", "@", "%": true
        default: false
        }
    }

    private static func escaped(_ byte: UInt8) -> String {
        if isPlain(byte) || byte == UInt8(ascii: " ") { return String(Unicode.Scalar(byte)) }
        let digits = String(byte, radix: 8)
        return "\\" + String(repeating: "0", count: 3 - digits.count) + digits
    }
}

extension String {
    /// For commands that a person copies into a shell.
    package var shellWord: String { ShellWord.quoted(Array(utf8)) }
}

extension FilePath {
    /// For commands that a person copies into a shell.
    package var shellWord: String {
        withPlatformString { ShellWord.quoted(Array(UnsafeRawBufferPointer(start: $0, count: length))) }
    }

    /// For messages: a name cannot break a line or paint a terminal.
    var printable: String { OneLine.escaping(string) }
}
