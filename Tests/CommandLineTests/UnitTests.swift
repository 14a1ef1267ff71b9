import Foundation
import Testing

/// The shipped systemd units, as far as they depend on each other.
@Suite struct UnitTests {
    private static func lines(_ unit: String) throws -> [String] {
        let file = DaemonBench.checkout.appending(path: "etc/systemd/\(unit)")
        return try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map(String.init)
            .filter { !$0.hasPrefix("#") }
    }

    @Test("a run of backups waits for a daemon that is just starting, and starts none that was stopped")
    func order() throws {
        let daemon = "prov-backup-rsnapshot.service"
        let ties = try Self.lines("prov-backup-rsnapshot-backup@.service").filter { $0.contains(daemon) }
        #expect(ties.count == 1 && ties[0].hasPrefix("After="), "\(ties)")
        // So that started means that it answers.
        #expect(try Self.lines(daemon).contains("Type=notify"))
    }

    @Test(
        "each level has a timer for its own run, which is made up for",
        arguments: ["hourly", "daily", "weekly", "monthly", "yearly"])
    func timers(level: String) throws {
        let lines = try Self.lines("prov-backup-rsnapshot-backup-\(level).timer")
        for line in ["Unit=prov-backup-rsnapshot-backup@\(level).service", "Persistent=true", "WantedBy=timers.target"]
        {
            #expect(lines.contains(line), "\(line)")
        }
    }
}
