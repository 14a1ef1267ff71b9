import LDAP
import Foundation
import JobCore
import Provisioning
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

@Suite struct HomeScriptTests {
    private func service(_ directory: TestDirectory, script: FilePath) throws -> BackupRsnapshotService {
        try BackupRsnapshotService(
            configuration: directory.configuration {
                $0.homeScript = script
                $0.reportSocket = "/run/x/report"
            })
    }

    @Test("the script gets exactly the arguments and the environment of the contract, for each action")
    func contract() async throws {
        let directory = try TestDirectory()
        let said = directory.path.appending("said")
        let script = try directory.script(
            "printf '%s\\n' \"$#\" \"$@\" > \(said); /usr/bin/env | /usr/bin/sort >> \(said); mkdir -p \"$2\"")
        let service = try service(directory, script: script)
        let home = directory.homes.string + "/3723707/chroot/./home/3723707"
        let entry = accountEntry(home: home)
        for (operation, attempt) in [(Operation.add, 1), (.add, 2), (.modify, 1), (.delete, 3)] {
            try await service.carryOut(operation, entry, attempt: attempt)
            var expected = [
                "LANG=C", "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "PROV_ACTION=\(operation)", "PROV_ATTEMPT=\(attempt)", "PROV_DN=uid=3723707,ou=accounts",
                "PROV_GID_NUMBER=3723707", "PROV_HOME=\(home)", "PROV_JOB_ID=17",
                "PROV_OWNERSHIP=\(service.configuration.ownership)",
                "PROV_QUOTA_BYTES=\(operation == .delete ? "0" : "10737418240")", "PROV_REPORT_SOCKET=/run/x/report",
                "PROV_UID=3723707", "PROV_UID_NUMBER=3723707",
            ]
            let lines = try text(said).split(separator: "\n").map(String.init)
            #expect(lines.prefix(5) == ["4", "3723707", home, "3723707", "3723707"])
            // What the shell sets by itself.
            let environment = lines.dropFirst(5).filter { line in
                !["PWD=", "SHLVL=", "_="].contains { line.hasPrefix($0) }
            }
            expected.sort()
            #expect(environment.sorted() == expected)
            try FileManager.default.removeItem(atPath: said.string)
        }
    }

    @Test("what the script undid at a delete is made again when the account is added again, although its home was kept")
    func addedAgain() async throws {
        let directory = try TestDirectory()
        let mounted = directory.path.appending("mounted")
        let script = try directory.script(
            "if [ $PROV_ACTION = delete ]; then rm -f \(mounted); else mkdir -p \"$2\"; touch \(mounted); fi")
        let service = try service(directory, script: script)
        for _ in 1...2 {
            try await service.carryOut(.add, directory.entry())
            #expect(exists(mounted))
            let names = try await service.plan(request(.add, directory.entry())).map(\.name)
            #expect(names == ["rsnapshot configuration"], "nothing is left to be done")
            try await service.carryOut(.delete, directory.entry())
            #expect(!exists(mounted) && exists(directory.homes.pushing("3723707/incoming")))
        }
    }

    @Test("the script gets values unchanged, without interpretation by a shell")
    func noShell() async throws {
        let directory = try TestDirectory()
        let script = try directory.script("printf %s \"$PROV_DN\" > \(directory.path)/dn; mkdir -p \"$2\"")
        var entry = directory.entry()
        entry.dn = DN.root.appending("ou", "$(touch \(directory.path)/owned); `id` 'x").appending("uid", "3723707")
        try await service(directory, script: script).carryOut(.add, entry)
        #expect(!exists(directory.path.appending("owned")))
        #expect(try text(directory.path.appending("dn")).contains("$(touch"))
    }

    @Test(
        "a script that fails is code 5, and later steps are not run",
        arguments: [
            ("echo the disk is on fire >&2; exit 3", FailureClass.permanent, "exit code 3"),
            ("exit 75", .retryable, "exit code 75"), ("kill -9 $$", .permanent, "signal 9"),
            ("kill -TERM $$", .permanent, "signal 15"), ("true", .permanent, "there is no directory"),
        ])
    func failure(body: String, failureClass: FailureClass, reason: String) async throws {
        let directory = try TestDirectory()
        let failure = try await service(directory, script: directory.script(body)).failure(.add, directory.entry())
        #expect(failure?.code == .cannotCreateHomeDir)
        #expect(failure?.failureClass == failureClass)
        #expect(failure?.reason.contains(reason) == true, "\(failure?.reason ?? "")")
        if body.contains("fire") { #expect(failure?.output == "the disk is on fire\n") }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.configurations.string) == [])
    }

    @Test("a script that exceeds its time limit is ended with code 5")
    func timeLimit() async throws {
        let directory = try TestDirectory()
        var configuration = try directory.configuration()
        let waits = directory.path.appending("waits")
        configuration.homeScript = try directory.script("echo waiting; touch \(waits); exec sleep 600")
        let service = BackupRsnapshotService(configuration: configuration)
        let clock = ManualSteadyClock()
        async let failing = service.failure(.add, directory.entry(), scripts: ScriptRunner(clock: clock))
        try await eventually("the script waits") { exists(waits) }
        clock.advance(by: configuration.scriptTimeout)
        let failure = try await failing
        #expect(failure?.code == .cannotCreateHomeDir)
        #expect(failure?.reason.contains("time limit") == true)
        #expect(failure?.hint.contains("SCRIPT_TIMEOUT") == true)
        #expect(failure?.output == "waiting\n")
    }

    @Test("when the daemon stops, a running script is ended and the step says that it was cancelled")
    func cancelled() async throws {
        let directory = try TestDirectory()
        let began = directory.path.appending("began")
        let service = try service(directory, script: directory.script("touch \(began); sleep 600 & wait"))
        let work = Task { try await service.carryOut(.add, directory.entry()) }
        try await eventually("the script has begun") { exists(began) }
        work.cancel()
        await #expect(throws: CancellationError.self) { try await work.value }
    }

    @Test(
        "a script that others can write is refused before anything is done",
        arguments: [0o775, 0o757, 0o644] as [mode_t])
    func permissions(mode: mode_t) async throws {
        let directory = try TestDirectory()
        let script = try directory.script("mkdir -p \"$2\"", mode: mode)
        let service = try service(directory, script: script)
        let before = try directory.listing()
        let failure = try await service.failure(.add, directory.entry())
        #expect(failure?.code == .cannotCreateHomeDir)
        #expect(failure?.failureClass == .configuration)
        #expect(failure?.reason.contains("home.sh") == true)
        #expect(try directory.listing() == before)
    }

    @Test("add runs no script for a complete home, unless an earlier attempt may have been interrupted")
    func runsWhenNeeded() async throws {
        let directory = try TestDirectory()
        let script = try directory.script("echo x >> \(directory.path)/runs; mkdir -p \"$2\"")
        let service = try service(directory, script: script)
        func runs() throws -> Int { try text(directory.path.appending("runs")).count / 2 }
        try await service.carryOut(.add, directory.entry())
        #expect(try runs() == 1)
        try await service.carryOut(.add, directory.entry())
        #expect(try runs() == 1)
        try await service.carryOut(.add, directory.entry(), attempt: 2)
        #expect(try runs() == 2)
        try await service.carryOut(.modify, directory.entry())
        #expect(try runs() == 3)
        try FileManager.default.removeItem(atPath: directory.homes.appending("3723707").appending(".snapshots").string)
        try await service.carryOut(.add, directory.entry())
        #expect(try runs() == 4, "a home without .snapshots was left unfinished")
    }

    @Test(
        "needs root: a script that leaves something the account could swap is code 5", .enabled(if: isRoot),
        arguments: [
            "mkdir -p $2; chown $3:$4 $2", "mkdir -p $2; chmod 0777 $2",
            "mkdir -p $2/.snapshots; chown $3:$4 $2/.snapshots", "mkdir -p $2; ln -s /etc $2/.snapshots",
        ])
    func unsafe(body: String) async throws {
        let directory = try TestDirectory()
        let failure = try await service(directory, script: directory.script(body)).failure(.add, directory.entry())
        #expect(failure?.code == .cannotCreateHomeDir, "\(failure.map { "\($0)" } ?? "was taken")")
        #expect(failure?.reason.contains("3723707") == true)
    }

    @Test("a script that makes the home a link is refused")
    func linkedHome() async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("elsewhere")
        let service = try service(directory, script: directory.script("ln -s \(directory.path)/elsewhere \"$2\""))
        let failure = try await service.failure(.add, directory.entry())
        #expect(failure?.code == .cannotCheckHomeDirPresence)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path.appending("elsewhere").string) == [])
    }
}
