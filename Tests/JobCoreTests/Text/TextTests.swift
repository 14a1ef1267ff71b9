import SystemPackage
import Testing

@testable import JobCore

@Suite struct OneLineTests {
    @Test(
        "text from elsewhere stays on one line, cannot steer a terminal and does not turn writing round",
        arguments: [
            ("plain täxt \\ 100%", "plain täxt \\ 100%"), ("a\nERROR forged", "a\\nERROR forged"),
            ("a\r\nb", "a\\r\\nb"), ("\u{1B}[2J", "\\u{1b}[2J"), ("\u{0}\u{7F}\u{85}", "\\u{0}\\u{7f}\\u{85}"),
            ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"), ("\u{9B}1m", "\\u{9b}1m"), ("\u{202E}txt", "\\u{202e}txt"),
        ])
    func escaping(text: String, expected: String) { #expect(OneLine.of(text) == expected) }

    @Test("every C1 control and every bidirectional control is escaped")
    func all() {
        let scalars = [0x80...0x9F, 0x202A...0x202E, 0x2066...0x2069, 0x200E...0x200F, 0x061C...0x061C].joined()
        for scalar in scalars.compactMap({ Unicode.Scalar(UInt32($0)) }) {
            #expect(OneLine.escaping(String(scalar)) == "\\u{\(String(scalar.value, radix: 16))}")
        }
    }

    @Test("a line has at most 4,000 characters, also of one letter with many accents, and contains the full length")
    func cut() {
        let whole = String(repeating: "ä", count: 4_000)
        #expect(OneLine.of(whole) == whole)
        for text in [whole + "x", "e" + String(repeating: "\u{301}", count: 1_000_000)] {
            let line = OneLine.of(text)
            #expect(line.unicodeScalars.count == 4_000)
            #expect(line.hasSuffix("… (cut; \(text.unicodeScalars.count) characters in all)"))
            #expect(line.unicodeScalars.starts(with: text.unicodeScalars.prefix(3_900)))
        }
        let controls = OneLine.of(String(repeating: "\u{1B}", count: 3_000))
        #expect(controls.unicodeScalars.count == 4_000, "escaped text is what is counted")
    }
}

@Suite struct ShellWordTests {
    @Test(
        "a word of a command is quoted where a shell would see more than a word",
        arguments: [
            ("/srv/backup/a-b_c.d", "/srv/backup/a-b_c.d"), ("", "''"), ("a b", "'a b'"), ("it's", #"'it'\''s'"#),
            ("$(reboot)", "'$(reboot)'"), ("~root", "'~root'"), ("a;b", "'a;b'"), ("ä", "'ä'"),
            ("a\nb", #"$'a\012b'"#), ("\u{202E}'", #"$'\342\200\256\047'"#),
        ])
    func quoted(text: String, expected: String) { #expect(text.shellWord == expected) }

    @Test("a path that is not valid text is quoted byte by byte")
    func bytes() throws {
        let path: [CInterop.PlatformChar] = [47, -1, 97, 0]
        #expect(FilePath(platformString: path).shellWord == #"$'/\377a'"#)
    }
}
