/// Makes text from elsewhere safe to print: one line, no control characters, nothing that turns writing round.
///
/// A directory entry, a script's output or a settings file may hold anything. Escaped like this it can neither forge a
/// second log line nor steer a terminal.
public enum OneLine {
    /// - Returns: the text with line feed, carriage return and tab as `\n`, `\r`, `\t`, and every other control, format
    ///   or line-separating character as `\u{…}`. Other text, and a backslash, stays as it is.
    public static func escaping(_ text: String) -> String {
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

    private static func mustBeEscaped(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return scalar.value < 0x20 || scalar.value == 0x7F }
        return switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: true
        default: false
        }
    }
}
