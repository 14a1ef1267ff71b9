import Foundation
import Logging
import Synchronization
import Testing

@testable import Daemon

/// Keeps what a handler writes.
private final class Lines: Sendable {
    private let kept = Mutex<[String]>([])
    var all: [String] { kept.withLock { $0 } }
    func append(_ line: String) { kept.withLock { $0.append(line) } }
}

struct TerminalLogHandlerTests {
    private let lines = Lines()

    private func logger(isColoured: Bool = false) -> Logger {
        let lines = lines
        return Logger(label: "test") { _ in
            LineLogHandler.terminal(isColoured: isColoured, now: { 0 }, write: { lines.append($0) })
        }
    }

    @Test func `a line has time, level, message and metadata in the order of the keys`() throws {
        logger().info("account added", metadata: ["uid": "3723707", "dn": "uid=3723707,ou=a", "empty": ""])
        let line = try #require(lines.all.first)
        #expect(line.hasSuffix("INFO     account added dn=\"uid=3723707,ou=a\" empty=\"\" uid=3723707"))
        #expect(line.wholeMatch(of: #/\d\d:\d\d:\d\d INFO .*/#) != nil)
    }

    @Test func `a line has 4,000 characters at most, and a long message does not hide the job`() throws {
        let long = String(repeating: "x", count: 1_000_000)
        logger().info("\(long)", metadata: ["job": "7", "value": "\(long)"])
        let line = try #require(lines.all.first)
        #expect(line.unicodeScalars.count <= 4_000)
        #expect(line.contains("xx… (cut; 1000000 characters in all) job=7 value=\"xx"))
    }

    @Test func `every level is written`() {
        for level in Logger.Level.allCases { logger().log(level: level, "x") }
        #expect(lines.all.count == Logger.Level.allCases.count)
    }

    @Test func `text from the LDAP server can neither forge a line nor control the terminal`() {
        logger().warning("cn is a\n12:00:00 ERROR forged\u{1B}[2J", metadata: ["k\ney": "v\n\"q\" \u{1B}"])
        #expect(lines.all.count == 1)
        #expect(lines.all[0].filter(\.isNewline).isEmpty)
        #expect(!lines.all[0].contains("\u{1B}"))
        #expect(lines.all[0].hasSuffix(#"k\ney="v\n\"q\" \u{1b}""#))
    }

    @Test func `colours are used if they are enabled`() {
        logger(isColoured: true).error("x")
        #expect(lines.all[0].contains("\u{1B}[1;31mERROR\u{1B}[0m"))
    }

}

struct SyslogLogHandlerTests {
    private let lines = Lines()

    private func logger(_ switches: LogSwitches = LogSwitches(debug: true)) -> Logger {
        let lines = lines
        return Logger(label: "test") { _ in
            LineLogHandler.system(switches) { priority, text in lines.append("<\(priority)>\(text)") }
        }
    }

    @Test func `each level has its priority, and text is not used as a format`() {
        for level in Logger.Level.allCases { logger().log(level: level, "100%s %n") }
        #expect(lines.all == [7, 7, 6, 5, 4, 3, 2].map { "<\($0)>100%s %n" })
    }

    @Test func `a message is one line, followed by the metadata`() {
        logger().error("a\nb", metadata: ["uid": "1", "job": "7"])
        #expect(lines.all == ["<3>a\\nb job=7 uid=1"])
    }

    @Test func `each switch disables only its own level`() {
        let logger = logger(LogSwitches(debug: true, info: false, warning: true, error: false))
        for level in [Logger.Level.debug, .info, .warning, .error] { logger.log(level: level, "\(level)") }
        #expect(lines.all == ["<7>debug", "<4>warning"])
    }

    @Test func `the lowest level follows the switches`() {
        #expect(LogSwitches().lowestLevel == .info)
        #expect(LogSwitches(debug: true).lowestLevel == .trace)
        #expect(LogSwitches(debug: false, info: false).lowestLevel == .warning)
    }

    @Test func `syslog is used if it listens, otherwise and with the journal the error stream`() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path.appending("log").string
        #expect(!LineLogHandler.usesSyslog(environment: [:], socket: path))
        let listener = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(listener) }
        #expect(try UnixSocketAddress(path).withSocketAddress { bind(listener, $0, $1) } == 0)
        #expect(LineLogHandler.usesSyslog(environment: [:], socket: path))
        var status = stat()
        #expect(fstat(STDERR_FILENO, &status) == 0)
        let ours = "\(status.st_dev):\(status.st_ino)"
        #expect(!LineLogHandler.usesSyslog(environment: ["JOURNAL_STREAM": ours], socket: path))
        #expect(LineLogHandler.usesSyslog(environment: ["JOURNAL_STREAM": "1:1"], socket: path))
    }
}
