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

    private func render(_ template: String) throws -> String {
        try RsnapshotTemplate(parsing: template)
            .render(retention: Retention([.daily: 7, .weekly: 4, .hourly: 0]), values: Self.value)
    }

    private func check(_ text: String, allowed: Set<String>? = nil) throws -> [RsnapshotLine] {
        try RsnapshotLine.all(
            in: text, allowed: allowed, account: "/var/backup/3723707", values: Self.value)
    }

    @Test("the shipped template gives a valid file")
    func shipped() throws {
        let template = try text(shippedTemplate)
        let rendered = try render(template)
        let directives = try RsnapshotTemplate(parsing: template).directives
        #expect(
            try check(rendered, allowed: directives).filter { ["retain", "snapshot_root", "backup"].contains($0.name) }
                .map {
                    $0.fields
                } == [
                    ["/var/backup/3723707/.snapshots/"], ["daily", "7"], ["weekly", "4"],
                    ["/var/backup/3723707/incoming/", "./"],
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

    @Test("nothing is replaced inside comments")
    func comments() throws {
        #expect(try render("# 100% of %HOUSE%\nexclude\t%UID%\n") == "# 100% of %HOUSE%\nexclude\t3723707\n")
    }

    private static let good = [
        "config_version\t1.2", "snapshot_root\t/var/backup/3723707/.snapshots/", "no_create_root\t1",
        "cmd_rsync\t/usr/bin/rsync", "retain\tdaily\t7", "rsync_long_args\t--delete --numeric-ids",
        "backup\t/var/backup/3723707/incoming/\t./", "link_dest\t1", "lockfile\t/run/x/rsnapshot-3723707.pid",
    ]
    private static let allowed: Set<String> = [
        "config_version", "snapshot_root", "no_create_root", "cmd_rsync", "retain", "rsync_long_args",
        "rsync_short_args", "backup", "link_dest", "lockfile",
    ]

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
            (6, "backup\t/var/backup/3723707/incoming/\t./\n\tand\tmore", "begins with white space"),
            (6, "backup\t/var/backup/3723707/incoming/\t./\ncmd_preexec\t/bin/sh", "no directive cmd_preexec"),
            (6, "backup\t/var/backup/3723707/incoming/\t./\nexclude\tx", "no directive exclude"),
            (6, "backup\t /var/backup/3723707/incoming/\t./", "blank"),
            (6, "backup\t/nonexistent/\t./", "may only be"),
            (6, "backup\t/x\u{1b}\t./", "control characters"),
            (6, "backup\t/x\r\t./", "control characters"), (4, "retain\tdaily\t7\nno_create_root\t1", "twice"),
            (7, "", "no line link_dest"), (8, "", "no line lockfile"), (8, "lockfile\t/tmp/x.pid", "may only be"),
        ])
    func rule(index: Int, line: String, reason: String) throws {
        var lines = Self.good
        #expect(throws: Never.self) { try check(lines.joined(separator: "\n"), allowed: Self.allowed) }
        lines[index] = line
        let error = try #require(throws: RsnapshotSyntaxError.self) {
            try check(lines.joined(separator: "\n"), allowed: Self.allowed)
        }
        #expect(error.reason.contains(reason), "\(error)")
        #expect(!error.hint.isEmpty)
    }

    @Test("snapshot_root must be inside the account for every value of the placeholder")
    func outside() {
        #expect(throws: RsnapshotSyntaxError.self) {
            try RsnapshotLine.all(
                in: Self.good.joined(separator: "\n"), account: "/var/backup/3723707/.snapshots",
                values: Self.value)
        }
    }

    @Test("snapshot_root must be above backup")
    func order() throws {
        var lines = Self.good
        lines.swapAt(1, 6)
        #expect(throws: RsnapshotSyntaxError.self) {
            try check(lines.joined(separator: "\n"), allowed: Self.allowed)
        }
    }

    @Test("a difference shows removed, added and kept lines")
    func difference() {
        #expect(ConfigurationStep.difference(from: "a\nb\nc\n", to: "a\nx\nc\nd\n") == " a\n-b\n+x\n c\n+d")
        #expect(ConfigurationStep.difference(from: nil, to: "a\n") == "+a")
        #expect(ConfigurationStep.difference(from: "a\nb\n", to: "a\n") == " a\n-b")
        #expect(ConfigurationStep.difference(from: "a\n", to: "a\n") == "")
    }
}
