import Foundation
import Glibc
import TestSupport
import Testing

/// Output that users and scripts rely on, compared with recorded files.
@Suite struct GoldenTests {
    @Test("the help of every command is what Golden/help.txt holds")
    func help() async throws {
        var text = ""
        func add(_ command: [String]) async throws {
            let shown = try await DaemonHarness.outcome(command + ["--help"], environment: ["COLUMNS": "80"])
            #expect(shown.status == 0 && shown.errors.isEmpty, "\(command): \(shown)")
            text += "== \((["prov-backup-rsnapshot"] + command).joined(separator: " "))\n\(shown.output)\n"
            guard let start = shown.output.range(of: "\nSUBCOMMANDS:\n") else { return }
            for name in shown.output[start.upperBound...].matches(of: #/(?m)^  ([a-z]+)(?: \(default\))?(?:  |$)/#) {
                try await add(command + [String(name.output.1)])
            }
        }
        try await add([])
        try Golden.expect(text, in: "help.txt")
    }

    @Test(
        "the JSON output of every command has the members, types and values that Golden/json holds",
        .enabled(if: geteuid() == 0, "needs root: owners are among the values"))
    func json() async throws {
        try await DaemonHarness.run { harness in
            let open = try await Self.scenario(harness)
            let normalizer = Normalizer(names: [
                (harness.sandbox.uri, "<server>"), (harness.directory.path, "<directory>"),
                (DaemonHarness.checkout.path, "<checkout>"),
            ])
            for command in [
                "status", "accounts list", "accounts list --pending", "accounts list --failed",
                "accounts explain 3724300", "accounts explain 3724301", "accounts explain 3724302",
                "accounts explain 3724303", "accounts explain 3724304", "accounts explain 3724305", "jobs list",
                "jobs show 1", "jobs show 2", "jobs show 3", "jobs show 4", "jobs show 6", "jobs show 7",
                "jobs show 8", "jobs show \(open)", "scripts list",
            ] {
                let values = try await harness.json(command.split(separator: " ").map(String.init))
                let name = command.replacing("--", with: "").replacing(" ", with: "-")
                let text = values.map { normalizer.json($0).text + "\n" }.joined()
                try Golden.expect(text, in: "json/\(name).json")
            }
            let checked = try await DaemonHarness.outcome(["check", "--json", "-c", harness.settingsFile.path])
            let check = try #require(try JSON.lines(checked.output).first)
            try Golden.expect(Self.stable(check) + "\n", in: "json/check.json")
            let health = try await DaemonHarness.outcome(["health", "-c", harness.settingsFile.path])
            try Golden.expect(normalizer.text(health.output), in: "health.txt")
            try harness.touch("go")
            #expect(try await harness.result(of: open) == "success")
        }
    }

    /// Accounts: one was added and backed up, of one the deletion was refused, the request of one has a later date, the
    /// backup of one failed, one is tried again later, and one is being added. Scripts: one has ended, and one runs.
    /// - Returns: the number of the job that runs until there is a file `go`.
    private static func scenario(_ harness: DaemonHarness) async throws -> String {
        let home = try harness.script(
            "home.sh",
            """
            echo making $1
            [ $1 = 3724304 ] && exit 75
            [ $1 = 3724305 ] && while [ ! -e \(harness.path("go")) ] && [ -e "$0" ]; do sleep 0.05; done
            mkdir -p "$PROV_HOME"
            """)
        let pre = try harness.script("hooks/pre_script.sh", "echo before")
        _ = try harness.script("hooks/post_script.sh", "echo after")
        let nightly = try harness.script(
            "nightly.sh",
            """
            echo first line
            \(DaemonHarness.program.path) report -r
            \(DaemonHarness.program.path) report -p 40
            echo a warning >&2
            exec \(DaemonHarness.program.path) report -f 3
            """)
        let waiting = try harness.script(
            "waiting.sh",
            "echo waits\ntouch \(harness.path("began"))\nwhile [ ! -e \(harness.path("go")) ] && [ -e \"$0\" ]; do sleep 0.05; done"
        )
        let handlers = try harness.handlers(
            """
            import bacula
            class Events:
                def JobStart(self, job): job.JobReport = "handled"
            bacula.set_events(Events())
            """)
        let settings = """
            HOME_SCRIPT = \(home)
            \(handlers)
            [Job nightly]
            SCRIPT = \(nightly)
            SCHEDULE = 0 3 29 2 *
            [Job waiting]
            SCRIPT = \(waiting)
            [Hooks Backup]
            ENABLED = yes
            DIRECTORY = \(URL(filePath: pre).deletingLastPathComponent().path)
            """
        func write(_ more: String) throws {
            try harness.settings(backup: settings + more)
            try String(contentsOf: harness.settingsFile, encoding: .utf8)
                .replacing("RETRY_DELAY = 1s", with: "RETRY_DELAY = 1h")
                .write(to: harness.settingsFile, atomically: true, encoding: .utf8)
            chmod(harness.settingsFile.path, 0o600)
        }
        // A daemon that has run before has no schedule to make up for.
        try write("")
        await harness.stop(try await harness.serving())
        try write("\n[Backup Jobs]\nDAILY = 0 3 29 2 *")
        _ = try await harness.serving()
        try await eventually("the handlers are loaded") {
            try await harness.json("scripts", "list").allSatisfy { ["ok", "off"].contains($0["state"].string) }
        }
        for uid in ["3724300", "3724301"] {
            try await harness.add(uid)
            try await harness.reached("added", uid)
        }
        try await harness.request("3724301", "delete")
        try await harness.returned("1", "3724301")
        try await harness.add("3724302", ["sstProvisioningExecutionDate": "20991231"])
        try harness.upload("hello", as: "hello.txt", of: "3724300")
        let backup = try await DaemonHarness.outcome(
            ["backup", "daily", "--account", "3724300", "-c", harness.settingsFile.path])
        #expect(backup.status == 0, "\(backup)")
        #expect(try await harness.result(of: try await harness.ask("nightly")) == "warnings")
        try await harness.add("3724303")
        try await harness.reached("added", "3724303")
        let configuration = harness.configuration("3724303")
        try String(contentsOf: configuration, encoding: .utf8).replacing("3724303", with: "3724309")
            .write(to: configuration, atomically: true, encoding: .utf8)
        let failed = try await DaemonHarness.outcome(
            ["backup", "daily", "--account", "3724303", "-c", harness.settingsFile.path])
        #expect(failed.status == 1, "\(failed)")
        try await harness.add("3724304")
        try await eventually("it is to be tried again") {
            try await harness.json("status").first?["daemon"]["retrying"].array.count == 1
        }
        try await harness.add("3724305")
        try await eventually("its script runs") {
            try await harness.json("status").first?["daemon"]["running"].array.first?["step"].string != nil
        }
        let open = try await harness.ask("waiting")
        try await eventually("the output of both scripts is there") {
            for job in ["8", open] where try await harness.json("jobs", "show", job).first?["output"] == .null {
                return false
            }
            return true
        }
        try await eventually("all other jobs have ended, and the request with a date is known") {
            let ended = try await harness.json("jobs", "list").filter { $0["isOpen"] == .bool(false) }
            let waiting = try await harness.json("status").first?["daemon"]["nextDue"]
            return ended.count == 6 && waiting?.string != nil
        }
        return open
    }

    /// The report of `check` without the lines that depend on the machine.
    private static func stable(_ report: JSON) -> String {
        let machine: Set<String> = [
            "mount options", "clock", "BACKUP_SANDBOX", "fs.protected_hardlinks", "bwrap", "rsync", "RSNAPSHOT",
            "room (STATE_DIRECTORY, RSNAPSHOT_CONFIG_DIRECTORY, homes)", "python3",
        ]
        let lines = report["lines"].array.compactMap { line -> JSON? in
            guard case .object(var members) = line, !machine.contains(line["subject"].string ?? "") else { return nil }
            for key in ["finding", "fix"] where members[key] != nil { members[key] = .string("<text>") }
            return .object(members)
        }
        guard case .object(var members) = report else { return "" }
        members["lines"] = .array(lines)
        return Normalizer(names: []).json(.object(members)).text
    }
}
