import SystemPackage
import Testing

@testable import BackupService

@Suite struct RsnapshotConfigurationTests {
    private static func value(_ placeholder: RsnapshotTemplate.Placeholder) -> String {
        switch placeholder {
        case .home: "/var/backup/3723707"
        case .snapshotRoot: "/var/backup/3723707/.snapshots"
        case .rsync: "/usr/bin/rsync"
        case .lockFile: "/run/x/rsnapshot-3723707.pid"
        default: "3723707"
        }
    }

    private func render(
        _ template: String, _ values: (RsnapshotTemplate.Placeholder) -> String = value
    ) throws -> String {
        try RsnapshotTemplate(parsing: template)
            .render(retention: Retention([.daily: 7, .weekly: 4, .hourly: 0]), values: values)
    }

    @Test("the shipped template gives a valid file")
    func shipped() throws {
        let rendered = try render(try text(shippedTemplate))
        let lines = rendered.split(separator: "\n").filter { line in
            ["retain", "snapshot_root", "backup"].contains { line.hasPrefix($0 + "\t") }
        }
        #expect(
            lines == [
                "snapshot_root\t/var/backup/3723707/.snapshots/", "retain\tdaily\t7", "retain\tweekly\t4",
                "backup\t/var/backup/3723707/incoming/\t./",
            ])
        #expect(!rendered.contains("%"))
    }

    @Test(
        "a template's fault is reported with line and hint",
        arguments: [
            ("config_version\t1.2\nbackup\t%HOUSE%/incoming/\t./", 2, "%HOUSE%"),
            ("snapshot_root\t%SNAPSHOT_ROOT", 1, "%"), ("verbose\t2\n\nretain\t%RETAIN%", 3, "shares its line"),
        ])
    func badTemplate(text: String, line: Int, reason: String) throws {
        let error = try #require(throws: RsnapshotSyntaxError.self) {
            try RsnapshotTemplate(parsing: text)
        }
        #expect(error.line == line)
        #expect(error.reason.contains(reason))
        #expect(!error.hint.isEmpty)
    }

    private static let good = [
        "config_version\t1.2", "snapshot_root\t%SNAPSHOT_ROOT%/", "no_create_root\t1", "cmd_rsync\t%RSYNC%", "%RETAIN%",
        "rsync_long_args\t--delete --numeric-ids", "backup\t%HOME%/incoming/\t./", "link_dest\t1",
        "lockfile\t%LOCKFILE%",
    ]
    private static let goodText = good.joined(separator: "\n") + "\n"

    @Test("comments, empty lines and lines without placeholders are kept, and nothing is replaced inside comments")
    func comments() throws {
        #expect(
            try render("# 100% of %HOUSE%\n\n" + Self.goodText + "exclude\t%UID%")
                == """
                # 100% of %HOUSE%

                config_version\t1.2
                snapshot_root\t/var/backup/3723707/.snapshots/
                no_create_root\t1
                cmd_rsync\t/usr/bin/rsync
                retain\tdaily\t7
                retain\tweekly\t4
                rsync_long_args\t--delete --numeric-ids
                backup\t/var/backup/3723707/incoming/\t./
                link_dest\t1
                lockfile\t/run/x/rsnapshot-3723707.pid
                exclude\t3723707

                """)
    }

    @Test(
        "each rule is held",
        arguments: [
            (0, "config_version\t1.1", "config_version is 1.1"), (0, "", "no line config_version"),
            (1, "snapshot_root\t/var/backup/4000001/.snapshots/", "may only be"),
            (1, "snapshot_root\t/var/backup/3723707", "may only be"), (1, "", "no line snapshot_root"),
            (2, "no_create_root\t0", "no_create_root is 0"), (2, "", "no line no_create_root"),
            (3, "", "no line cmd_rsync"), (3, "cmd_rsync /usr/bin/rsync", "no TAB"), (4, "", "no line retain"),
            (5, "", "no line rsync_long_args"), (5, "rsync_long_args\t--delete --relative", "--relative"),
            (5, "rsync_long_args\t--delete\nrsync_short_args\t-aR", "-R is refused"), (6, "", "no line backup"),
            (6, "backup\t%HOME%/incoming/\t./\n\tand\tmore", "begins with white space"),
            (6, "backup\t%HOME%/incoming/\t./\ncmd_preexec\t/bin/sh", "cmd_preexec is refused"),
            (6, "# A comment.\r\ncmd_preexec\t/bin/sh", "cmd_preexec is refused"),
            (6, "backup\t %HOME%/incoming/\t./", "blank"),
            (6, "backup\t/nonexistent/\t./", "may only be"),
            (6, "backup\t/x\u{1b}\t./", "control characters"),
            (6, "backup\t/x\r\t./", "control characters"), (4, "%RETAIN%\nno_create_root\t1", "twice"),
            (7, "", "no line link_dest"), (8, "", "no line lockfile"), (8, "lockfile\t/tmp/x.pid", "may only be"),
        ])
    func rule(index: Int, line: String, reason: String) throws {
        var lines = Self.good
        lines[index] = line
        let error = try #require(throws: RsnapshotSyntaxError.self) {
            try RsnapshotTemplate(parsing: lines.joined(separator: "\n"))
        }
        #expect(error.reason.contains(reason), "\(error)")
        #expect(!error.hint.isEmpty)
    }

    @Test(
        "a value cannot bring in another line, field or path",
        arguments: [
            (RsnapshotTemplate.Placeholder.rsync, "/usr/bin/rsync\ncmd_preexec\t/bin/sh", "control characters"),
            (.rsync, "/usr/bin/rsync\tx", "one field"), (.lockFile, "/run/x\r", "control characters"),
            (.home, "/var/backup/3723707/incoming/\t./\nexclude\tx", "control characters"),
            (.uid, "3723707 --rsh=/bin/sh", "more than one word"),
        ])
    func injected(placeholder: RsnapshotTemplate.Placeholder, value: String, reason: String) throws {
        let error = try #require(throws: RsnapshotSyntaxError.self) {
            try render(Self.goodText + "exclude\t%UID%\n") { $0 == placeholder ? value : Self.value($0) }
        }
        #expect(error.reason.contains(reason) && error.line > 1, "\(error)")
    }

    @Test("a file of patterns in the account is refused")
    func patterns() throws {
        #expect(throws: Never.self) { try render(Self.goodText + "exclude_file\t/etc/patterns\n") }
        let error = try #require(throws: RsnapshotSyntaxError.self) {
            try render(Self.goodText + "exclude_file\t/var/backup/3723707/incoming/patterns\n")
        }
        #expect(error.line == 10 && error.reason.contains("outside the account"))
    }

    @Test("snapshot_root must be above backup")
    func order() throws {
        var lines = Self.good
        lines.swapAt(1, 6)
        let error = try #require(throws: RsnapshotSyntaxError.self) {
            try RsnapshotTemplate(parsing: lines.joined(separator: "\n"))
        }
        #expect(error.line == 2)
    }

    @Test("a difference shows removed, added and kept lines")
    func difference() {
        #expect(ConfigurationStep.difference(from: "a\nb\nc\n", to: "a\nx\nc\nd\n") == " a\n-b\n+x\n c\n+d")
        #expect(ConfigurationStep.difference(from: nil, to: "a\n") == "+a")
        #expect(ConfigurationStep.difference(from: "a\nb\n", to: "a\n") == " a\n-b")
        #expect(ConfigurationStep.difference(from: "a\n", to: "a\n") == "")
    }
}
