/// Makes text from elsewhere safe to show: one line of bounded length, no control characters, nothing that turns writing round.
///
/// A directory entry, a script's output or a settings file may hold anything. Escaped like this it can neither forge a
/// second log line nor steer a terminal, and cut like this it cannot fill a log.
package enum OneLine {
    /// Characters of a line at most, the mark of a cut included.
    package static let longest = 4_000

    /// Characters of one value of an entry at most, where several stand in a line.
    package static let longestValue = 500

    /// The text escaped, and cut at the length of a line.
    package static func of(_ text: String) -> String { cut(escaping(text)) }

    /// - Returns: the text with line feed, carriage return and tab as `\n`, `\r`, `\t`, and every other control, format
    ///   or line-separating character as `\u{…}`. Other text, and a backslash, stays as it is.
    package static func escaping(_ text: String) -> String {
        // Nearly all text is this, and to look at bytes is quick.
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

    /// A value of an entry, which may hold anything of any length, to stand beside others.
    package static func value(_ text: String) -> String { cut(text, to: longestValue) }

    /// - Parameter limit: in Unicode scalars, for one character may have any number of them.
    /// - Returns: the text, or its beginning and a mark that tells how long the whole is.
    package static func cut(_ text: String, to limit: Int = longest) -> String {
        // The text is looked at as a whole only where it may be too long.
        guard text.utf8.count > limit else { return text }
        let length = text.unicodeScalars.count
        guard length > limit else { return text }
        let mark = "… (cut; \(length) characters in all)"
        return String(text.unicodeScalars.prefix(max(0, limit - mark.unicodeScalars.count))) + mark
    }

    /// Whether a character could break a line, steer a terminal or turn writing round: of the categories Cc, Cf, Zl and Zp.
    package static func mustBeEscaped(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return scalar.value < 0x20 || scalar.value == 0x7F }
        return switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: true
        default: false
        }
    }
}
