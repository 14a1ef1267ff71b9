import Glibc
import SystemPackage

/// Makes untrusted text safe to show: one line of bounded length without control characters and bidirectional
/// formatting.
///
/// LDAP entries, output of scripts and settings files may contain anything. Escaped text can neither forge a log line
/// nor control a terminal, and truncated text cannot fill a log.
package enum OneLine {
    /// The maximum length of a line in characters, including the truncation mark.
    package static let longest = 4_000

    /// The maximum length of one value in a line of several.
    package static let longestValue = 500

    /// The text escaped and truncated to the length of a line.
    package static func of(_ text: String) -> String { cut(escaping(text)) }

    /// - Returns: the text with line feed, carriage return and tab as `\n`, `\r`, `\t`, and every other control,
    ///   format or line-separating character as `\u{…}`. Other text, including a backslash, is unchanged.
    package static func escaping(_ text: String) -> String {
        // The usual case: printable ASCII, which is fast to check by bytes.
        if text.utf8.allSatisfy({ (0x20..<0x7F).contains($0) }) { return text }
        guard text.unicodeScalars.contains(where: mustBeEscaped) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where mustBeEscaped(scalar): result += "\\u{\(String(scalar.value, radix: 16))}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// A value truncated for a line of several.
    package static func value(_ text: String) -> String { cut(text, to: longestValue) }

    /// - Parameter limit: in Unicode scalars, because one character may have any number of them.
    /// - Returns: the text, or its beginning and a mark with its full length.
    package static func cut(_ text: String, to limit: Int = longest) -> String {
        // The length is counted only if the text may be too long.
        guard text.utf8.count > limit else { return text }
        let length = text.unicodeScalars.count
        guard length > limit else { return text }
        let mark = "… (cut; \(length) characters in all)"
        return String(text.unicodeScalars.prefix(max(0, limit - mark.unicodeScalars.count))) + mark
    }

    /// Whether a character could break a line, control a terminal or change the writing direction: categories Cc, Cf,
    /// Zl and Zp.
    package static func mustBeEscaped(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return scalar.value < 0x20 || scalar.value == 0x7F }
        return switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: true
        default: false
        }
    }
}

extension String {
    /// One word of a command that a person copies into a shell.
    package var shellWord: String { shellQuoted(Array(utf8)) }

    /// Whether C would take only its beginning.
    var containsNUL: Bool { withCString { strlen($0) } != utf8.count }
}

extension FilePath {
    /// One word of a command that a person copies into a shell.
    package var shellWord: String {
        withPlatformString { shellQuoted(Array(UnsafeRawBufferPointer(start: $0, count: length))) }
    }

    /// Escaped for messages.
    var printable: String { OneLine.escaping(string) }
}

/// Unquoted if all characters are plain; otherwise in single quotes; invalid or invisible text byte by byte in
/// `$'…'` (bash, zsh, ksh, POSIX 2024).
private func shellQuoted(_ bytes: [UInt8]) -> String {
    guard let text = String(validating: bytes, as: UTF8.self),
        !text.unicodeScalars.contains(where: OneLine.mustBeEscaped)
    else { return "$'" + bytes.map(escaped).joined() + "'" }
    guard text.isEmpty || !bytes.allSatisfy(isPlain) else { return text }
    return "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
}

private func isPlain(_ byte: UInt8) -> Bool {
    switch Unicode.Scalar(byte) {
    case "a"..."z", "A"..."Z", "0"..."9", "/", ".", "_", "-", "+", "=", ":", ",", "@", "%": true
    default: false
    }
}

private func escaped(_ byte: UInt8) -> String {
    if isPlain(byte) || byte == UInt8(ascii: " ") { return String(Unicode.Scalar(byte)) }
    let digits = String(byte, radix: 8)
    return "\\" + String(repeating: "0", count: 3 - digits.count) + digits
}

/// Suggests the intended name for a misspelled one.
package enum NearestName {
    /// - Returns: the candidate with the fewest single-character changes from `name`, ignoring case; `nil` if even
    ///   the best would change more than a third of the word.
    package static func of(_ name: String, among candidates: some Sequence<String>) -> String? {
        let word = Array(name.lowercased())
        let ranked = candidates.map { (name: $0, distance: distance(word, Array($0.lowercased()))) }
        guard let best = ranked.min(by: { ($0.distance, $0.name) < ($1.distance, $1.name) }) else { return nil }
        return best.distance <= max(1, max(word.count, best.name.count) / 3) ? best.name : nil
    }

    /// The Levenshtein distance, with a swap of neighbours counted as one change.
    private static func distance(_ left: [Character], _ right: [Character]) -> Int {
        var beforeLast: [Int] = []
        var last = Array(0...right.count)
        for (row, character) in left.enumerated() {
            var current = [row + 1]
            for (column, other) in right.enumerated() {
                var best = min(last[column + 1] + 1, current[column] + 1, last[column] + (character == other ? 0 : 1))
                if row > 0, column > 0, character == right[column - 1], left[row - 1] == other {
                    best = min(best, beforeLast[column - 1] + 1)
                }
                current.append(best)
            }
            (beforeLast, last) = (last, current)
        }
        return last[right.count]
    }
}
