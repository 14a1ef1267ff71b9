import Foundation
import Provisioning
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

/// The directives that a template may have, and those that would change the meaning of a run.
@Suite struct RsnapshotDirectiveTests {
    private func parse(_ text: String) throws -> RsnapshotTemplate {
        try RsnapshotTemplate(parsing: text)
    }

    @Test(
        "a line that changes the meaning of a run is refused in the template, with its line, the reason and the hint",
        arguments: [
            "sync_first\t1", "sync_first\t0", "link_dest\t0", "use_lazy_deletes\t1", "retain\tdaily\t7",
            "interval\tdaily\t7", "cmd_preexec\t/bin/true", "cmd_postexec\t/bin/true", "backup_script\t/bin/true\t./",
            "backup_exec\t/bin/true", "include_conf\t/etc/more.conf", "include_conf\t`/bin/true`",
            "backup\t/etc/\t./", "backup\t%HOME%/incoming/\tincoming/", "backup\t%HOME%/\t./",
            "backup\troot@example.org:/\t./", "backup\t%HOME%/incoming/\t./\t+rsync_long_args=--inplace",
            "lockfile\t/run/rsnapshot.pid", "stop_on_stale_lockfile\t1", "linux_lvm_cmd_mount\t/bin/mount",
            "linux_lvm_vgpath\t/dev", "logfile\t/var/log/rsnapshot", "rsync_numtries\t3", "rsync_numtries\t0",
            "snapshot_root\t%HOME%/", "snapshot_root\t/var/backup/", "no_create_root\t0", "config_version\t1.3",
            "no_such_directive\t1", "Backup\t%HOME%/incoming/\t./",
            "rsync_long_args\t--delete\t--numeric-ids", "one_fs\t1\t1",
            "exclude\tx --rsh=/bin/sh", "include\t'x' --inplace", "exclude\t\"x", "exclude_file\tpatterns",
            "exclude_file\t%HOME%/incoming/patterns", "include_file\t/etc/a --inplace",
            "rsync_short_args\t-rlt", "rsync_short_args\ta", "rsync_short_args\t-a -z",
            " verbose\t2", "verbose 2",
        ])
    func refused(line: String) throws {
        let error = try #require(throws: RsnapshotSyntaxError.self) { try parse("# A comment.\n\n" + line + "\n") }
        #expect(error.line == 3)
        #expect(!error.reason.isEmpty && !error.hint.isEmpty)
        #expect(!error.reason.hasPrefix("there is no line"), "the line itself is refused")
    }

    @Test(
        "an rsync option that would make an incomplete snapshot is refused in every spelling",
        arguments: [
            "--relative", "-R", "-aR", "--remove-source-files", "--link-dest=/x", "--link-dest /x", "--copy-dest=/x",
            "--compare-dest=/x", "--log-file=/x", "-e ssh", "-essh", "--rsh=ssh", "'--rsh=ssh -p 22'",
            "--rsync-path=/x",
            "--files-from=/x", "--inplace", "--in\"place\"", "--append", "--write-batch=x", "--read-batch=x",
            "--only-write-batch=x", "--fake-super", "--copy-links", "-L", "-k", "-K", "--copy-unsafe-links",
            "--insecure-links", "--dry-run", "-n", "-vn", "--list-only", "--backup", "-b", "--backup-dir=/x",
            "--temp-dir=/x", "-T /x", "-T/x", "--daemon", "--server", "--sender", "-M--fake-super", "--size-only",
            "--existing", "--ignore-existing", "-u", "--max-delete=1", "-I", "--partial", "-P", "--delay-updates",
            "--stop-after=5", "-v", "--itemize-changes", "--out-format=n", "--progress", "--info=name", "--chown=a:b",
            "--usermap=*:0", "--copy-as=0", "--iconv=utf8,latin1", "--no-times", "--no-t", "--no-links",
            "--no-recursive",
            "--no-r", "--no-archive", "--modify-window=2", "-@2", "--ignore-errors", "--exclude-from=/x", "-d",
            "--no-such-option", "--", "/etc/", "-", "--exclude", "-Q", "--D", "--config=/x",
        ])
    func refusedOption(option: String) throws {
        let error = try #require(throws: RsnapshotSyntaxError.self) {
            try parse("rsync_long_args\t--delete --numeric-ids \(option)\n")
        }
        #expect(error.line == 1)
        #expect(!error.reason.isEmpty && !error.hint.isEmpty)
        #expect(!error.reason.hasPrefix("there is no line"), "the line itself is refused")
    }

    @Test(
        "harmless additions of sites are allowed",
        arguments: [
            "rsync_long_args\t--delete --numeric-ids --delete-excluded --sparse --hard-links --modify-window=-1",
            "rsync_long_args\t--exclude=/tmp/ --exclude '*.bak' --bwlimit=20m --xattrs --acls --one-file-system --max-size=2g",
            "rsync_long_args\t-HSAX --no-D --stats --timeout=600 --whole-file --no-inc-recursive --delete-after -f '- core'",
            "rsync_short_args\t-aHAXSx", "rsync_short_args\t-rlptgoD", "exclude\t/tmp/", "exclude\t\"with blank\"",
            "include\t*.c", "exclude_file\t/etc/Provisioning/Backup/patterns", "one_fs\t1", "verbose\t3", "loglevel\t4",
            "cmd_rm\t/bin/rm", "cmd_du\t/usr/bin/du", "cmd_rsnapshot_diff\t/usr/bin/rsnapshot-diff", "du_args\t-csh",
            "cmd_logger\t/usr/bin/logger", "rsync_numtries\t1", "link_dest\t1", "lockfile\t%LOCKFILE%",
            "snapshot_root\t%SNAPSHOT_ROOT%", "backup\t%HOME%/incoming/\t./",
        ])
    func allowed(line: String) throws {
        let name = try #require(line.split(separator: "\t").first)
        let others = try text(shippedTemplate).split(separator: "\n")
            .map { $0.hasPrefix(name + "\t") && name != "exclude" ? Substring(line) : $0 }
        let whole = others.contains(Substring(line)) ? others : others + [Substring(line)]
        #expect(throws: Never.self) { try parse(whole.joined(separator: "\n")) }
    }

    @Test(
        "the table has every directive that rsnapshot knows, and no other",
        .enabled(if: Program.isExecutable("/usr/bin/rsnapshot")))
    func whole() throws {
        let rsnapshot = try text("/usr/bin/rsnapshot")
        let start = try #require(rsnapshot.range(of: "sub parse_config_file")?.upperBound)
        let end = try #require(rsnapshot.range(of: "sub validate_config_file")?.lowerBound)
        var known = Set(rsnapshot[start..<end].matches(of: #/\$var eq '([a-z_]+)'/#).map { String($0.output.1) })
        known.formUnion(["vgpath", "snapshotname", "snapshotsize", "mountpath"].map { "linux_lvm_\($0)" })
        // Of rsnapshot 1.5; it means nothing, since there is one try.
        known.remove("rsync_wait_between_tries")
        #expect(known.count > 40)
        #expect(known == Set(RsnapshotDirective.table.keys))
    }

    @Test(
        "every option that rsync lists is allowed or refused on purpose",
        .enabled(if: Program.isExecutable("/usr/bin/rsync")))
    func everyOption() throws {
        let help = Process()
        let output = Pipe()
        help.executableURL = URL(filePath: "/usr/bin/rsync")
        help.arguments = ["--help"]
        help.standardOutput = output
        try help.run()
        let text = String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        help.waitUntilExit()
        let options = text.matches(of: #/(?m)^(--?[A-Za-z0-9-]+)(=\S+)?/#).filter { $0.output.1 != "--no-OPTION" }
        #expect(options.count > 130)
        for option in options {
            let word = option.output.1 + (option.output.2 == nil ? "" : "=-1")
            do throws(RsnapshotSyntaxError) { try RsyncOptions.check(long: [String(word)]) } catch {
                #expect(!error.reason.contains("is not an rsync option"), "\(error.reason)")
            }
        }
    }

    @Test("docs/home-script.md names every directive that must stay")
    func documented() throws {
        let page = try text(repository.appending("docs").appending("home-script.md"))
        let start = try #require(page.range(of: "\n## The rsnapshot template\n")?.upperBound)
        for (name, directive) in RsnapshotDirective.table where directive.isRequired {
            #expect(page[start...].contains("`\(name)`"), "\(name)")
        }
    }

    @Test(
        "lines of an account's file that would make an incomplete snapshot are refused",
        arguments: [
            ("rsync_long_args\t--delete --inplace", false), ("rsync_long_args\t--delete\nexclude\tx --rsh=/x", false),
            ("rsync_long_args\t--delete\nrsync_short_args\t-aL", false),
            ("rsync_long_args\t--delete\nexclude_file\t/var/backup/3723707/incoming/x", false),
            ("rsync_long_args\t--delete\nexclude\t/tmp/\none_fs\t1", true),
            // Only for rsnapshot by hand.
            ("rsync_long_args\t--delete\nlockfile\t/run/other.pid\ncmd_preexec\t/bin/true", true),
        ])
    func copy(lines: String, isGood: Bool) throws {
        let places = HomePlaces(roots: ["/var/backup"])
        let home = try HomePath(parsing: "/var/backup/3723707", uid: "3723707", places: places)
        let file = ConfigurationFile(of: "3723707", BackupConfiguration())
        let configured = ConfiguredSnapshots(
            parsing: """
                snapshot_root\t/var/backup/3723707/.snapshots/
                retain\tdaily\t7
                \(lines)
                backup\t/var/backup/3723707/incoming/\t./
                """)
        do throws(ProvisioningFailure) {
            try configured.demand(.daily, in: home, of: file)
            #expect(isGood)
        } catch {
            #expect(!isGood, "\(error)")
            #expect(error.code == .cannotCreateRsnapshotConfiguration && !error.hint.isEmpty)
        }
    }
}
