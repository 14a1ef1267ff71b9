import ArgumentParser
import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import Daemon
@testable import JobCore
@testable import prov_backup_rsnapshot

/// The reporter command and the socket behind it, with real processes.
@Suite struct ReportTests {
    /// A registry with one job whose script runs, and the socket at which it may report.
    private final class Desk: Sendable {
        let directory: URL
        let registry = JobRegistry()
        let job: Job
        let token: String
        let server: ReportServer
        let program: URL

        /// - Parameter user: as whom the job's script runs; nil: as the daemon.
        init(user: UInt32? = nil, timeLimit: Duration = .seconds(30)) async throws {
            directory = FileManager.default.temporaryDirectory.appending(
                path: "prov-report-\(UUID().uuidString.prefix(8))")
            try FileManager.default.createDirectory(
                at: directory, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o755])
            // Where any user can reach it.
            program = directory.appending(path: "prov-backup-rsnapshot")
            do {
                try FileManager.default.linkItem(at: DaemonHarness.program, to: program)
            } catch {
                try FileManager.default.copyItem(at: DaemonHarness.program, to: program)
                try makeExecutable(program.path)
            }
            job = Job(
                id: JobID(7), type: .admin, name: "server_backup", subject: JobSubject("job server_backup"),
                client: "server_backup", created: SystemWallClock().now)
            await registry.open(job)
            token = await registry.beginAttempt(job.id, number: 1).text
            await registry.programRuns(job.id, output: LiveOutput(), profile: .lightsOutServer, user: user)
            let lock = try InstanceLock(in: FilePath(directory.path))
            server = try await ReportServer(under: lock, registry: registry, timeLimit: timeLimit)
        }

        deinit { try? FileManager.default.removeItem(at: directory) }

        var live: Job? { get async { await registry.live(job.id) } }

        func report(
            _ arguments: String..., user: UInt32? = nil, token: String? = nil, socket: String? = nil
        ) async throws -> (status: Int32, output: String) {
            let become = user.map { ["/usr/bin/setpriv", "--reuid", "\($0)", "--clear-groups"] } ?? []
            let variables = [
                "PROV_REPORT_SOCKET=\(socket ?? server.path.string)", "PROV_JOB_TOKEN=\(token ?? self.token)",
            ]
            let running = try RunningProgram(
                URL(filePath: "/usr/bin/env"),
                ["-i"] + become + ["/usr/bin/env"] + variables
                    + [program.path, "report"] + arguments)
            return (await running.end(), running.output)
        }
    }

    private func withDesk(
        user: UInt32? = nil, timeLimit: Duration = .seconds(30), _ body: (Desk) async throws -> Void
    ) async throws {
        let desk = try await Desk(user: user, timeLimit: timeLimit)
        do {
            try await body(desk)
        } catch {
            await desk.server.stop()
            throw error
        }
        await desk.server.stop()
    }

    @Test("L6 a script reports begin, progress and end by the long names of Lights-Out and the short ones")
    func reports() async throws {
        try await withDesk { desk in
            for arguments in [["-r"], ["--report_backup_started"], ["--report-backup-started"]] {
                #expect(try await desk.report(arguments[0]).status == 0)
            }
            #expect(await desk.live?.report.count == 3)
            for (option, percent) in [
                ("-p", 10), ("--report_backup_progress", 50), ("--report-backup-progress", 0), ("-p", 100),
            ] {
                let done = try await desk.report(option, "\(percent)")
                #expect(done.status == 0 && done.output.isEmpty, "\(done.output)")
                #expect(await desk.live?.progress == percent)
            }
            #expect(try await desk.report("-f", "0").status == 0)
            #expect(await desk.live?.reported == .success)
        }
    }

    @Test(
        "L6 every result of Lights-Out, and any other as a raw exit status; the heavier of two counts",
        arguments: [
            ("0", JobResult.success), ("1", .failed), ("2", .aborted), ("3", .warnings), ("4", .missed),
            ("5", .wrongConfiguration), ("255", .unknown), ("77", .failed),
        ])
    func results(number: String, result: JobResult) async throws {
        try await withDesk { desk in
            let first = try await desk.report("--report_backup_finished", number)
            #expect(first.status == 0, "\(first.output)")
            #expect(await desk.live?.reported == result)
            let second = try await desk.report("--report-backup-finished=0")
            #expect(second.status == 0, "\(second.output)")
            #expect(await desk.live?.reported == result)
        }
    }

    @Test(
        "L6 an invalid value is refused with the range and exit status 64, and nothing is reported",
        arguments: [
            (["-p", "101"], "from 0 to 100"), (["-p", "-1"], "from 0 to 100"), (["-p", "half"], "from 0 to 100"),
            (["-p", "99999999999999999999"], "from 0 to 100"), (["-p", "50\u{1B}[2J"], #"\u{1b}"#),
            (["-f", "256"], "from 0 to 255"), (["-f", "-1"], "from 0 to 255"), (["-f", ""], "from 0 to 255"),
            ([], "Nothing to report"), (["-r", "-p", "5"], "Only one report at a time"),
            (["-p", "5", "-f", "0"], "Only one report at a time"), (["-p"], "-p"),
        ])
    func refusals(arguments: [String], words: String) throws {
        let thrown = #expect(throws: (any Error).self) { try ReportCommand.parse(arguments) }
        let error = try #require(thrown)
        let told = ReportCommand.fullMessage(for: error)
        #expect(told.contains(words), "\(told)")
        #expect(ReportCommand.exitCode(for: error).rawValue == 64)
    }

    @Test("L6 outside of a job's script the command ends with a hint and exit status 64")
    func outside() async throws {
        for missing in ["PROV_REPORT_SOCKET", "PROV_JOB_TOKEN"] {
            let set = Set(["PROV_REPORT_SOCKET", "PROV_JOB_TOKEN"]).subtracting([missing]).map { "\($0)=/x" }
            let running = try RunningProgram(
                URL(filePath: "/usr/bin/env"), ["-i"] + set + [DaemonHarness.program.path, "report", "-p", "5"])
            #expect(await running.end() == 64)
            #expect(running.output.contains("\(missing) is not set") && running.output.contains("sudo or env -i"))
        }
    }

    @Test("L6 a wrong token is refused with 77, and so is one whose attempt has ended")
    func wrongToken() async throws {
        try await withDesk { desk in
            let guessed = try await desk.report("-p", "50", token: String(repeating: "0", count: 32))
            #expect(guessed.status == 77)
            #expect(guessed.output.contains("no job that runs has this token"))
            #expect(await desk.live?.progress == nil)
            await desk.registry.endAttempt(desk.job.id, nil)
            let late = try await desk.report("-p", "50")
            #expect(late.status == 77)
            #expect(await desk.live?.progress == nil)
        }
    }

    @Test("L6 no daemon listens: exit status 69 and the hint")
    func noDaemon() async throws {
        try await withDesk { desk in
            let alone = try await desk.report("-r", socket: desk.directory.appending(path: "none.sock").path)
            #expect(alone.status == 69)
            #expect(alone.output.contains("systemctl start"))
            for wrong in ["report.sock", "/" + String(repeating: "x", count: 200)] {
                #expect(try await desk.report("-r", socket: wrong).status == 64)
            }
        }
    }

    @Test("a daemon that does not reply delays a script only for seconds")
    func deafDaemon() async throws {
        try await withDesk { desk in
            let path = desk.directory.appending(path: "deaf.sock")
            let deaf = try DeafSocket(path.path)
            defer { deaf.close() }
            let held = try await desk.report("-r", socket: path.path)
            #expect(held.status == 75)
            #expect(held.output.contains("did not answer within 5 s"))
        }
    }

    @Test(
        "L6 the script's own user may report on it, root may, and no other user, even with the token",
        .enabled(if: geteuid() == 0, "only root can become another user"))
    func users() async throws {
        try await withDesk(user: 65_534) { desk in
            #expect(desk.server.notice == nil)
            let own = try await desk.report("-p", "40", user: 65_534)
            #expect(own.status == 0, "\(own.output)")
            #expect(await desk.live?.progress == 40)
            #expect(try await desk.report("-p", "41").status == 0)
            let stranger = try await desk.report("-p", "99", user: 65_533)
            #expect(stranger.status == 77)
            #expect(stranger.output.contains("user 65533 does not run the job's script"))
            #expect(await desk.live?.progress == 41)
        }
    }

    @Test("a runtime directory that other users cannot enter is reported with the hint")
    func closedDirectory() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "prov-closed-\(UUID().uuidString.prefix(8))")
        defer { try? FileManager.default.removeItem(at: directory) }
        try FileManager.default.createDirectory(
            at: directory, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
        let server = try await ReportServer(
            under: try InstanceLock(in: FilePath(directory.path)), registry: JobRegistry())
        #expect(server.notice?.contains("chmod o+x \(directory.path)") == true)
        await server.stop()
        #expect(!FileManager.default.fileExists(atPath: server.path.string))
    }

    @Test("an invalid report is refused and changes nothing")
    func nonsense() async throws {
        try await withDesk { desk in
            let client = ControlClient(socket: desk.server.path)
            for line in ["", "{}", "[1,2]", #"{"token":1}"#, "\u{0}", #"{"token":"x","message":{"cancel":{}}}"#] {
                let reply = try await client.exchange(ControlRequest(line: Array(line.utf8)))
                #expect(String(decoding: reply, as: UTF8.self).contains("refused"))
            }
            #expect(await desk.live?.report.isEmpty == true)
        }
    }

    @Test("many concurrent reports are all accepted")
    func manyAtOnce() async throws {
        try await withDesk { desk in
            let request = ReportRequest(token: desk.token, message: .started)
            let client = ControlClient(socket: desk.server.path)
            try await withThrowingTaskGroup { group in
                for _ in 0..<200 { group.addTask { try await client.ask(request, for: Bool.self) } }
                for try await isTaken in group { #expect(isTaken) }
            }
            #expect(await desk.live?.report.count == 200)
        }
    }
}

/// A socket on which connections wait for ever.
private struct DeafSocket {
    private let descriptor: Int32

    init(_ path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, listen(descriptor, 5) == 0 else { throw Errno(rawValue: errno) }
    }

    func close() { _ = Glibc.close(descriptor) }
}
