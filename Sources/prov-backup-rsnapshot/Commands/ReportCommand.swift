import ArgumentParser
import Daemon
import FoundationEssentials
import JobCore
import SystemPackage

/// Reports of a job's script about its job (specification: rows.md L6). The long names with underscores are those of Lights-Out.
struct ReportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Report begin, progress or end of a job, from its script.",
        discussion: """
            A script can only report about its own job, which is identified by PROV_REPORT_SOCKET and PROV_JOB_TOKEN in its \
            environment. It needs neither settings nor rights. Exit status: 0 accepted, 64 wrong usage, 77 refused, 69 no daemon \
            listens, 75 try again. After 5 seconds without a reply it gives up.
            """)

    @Flag(
        name: [.customShort("r"), .customLong("report_backup_started"), .customLong("report-backup-started")],
        help: "The work has begun.")
    var isStarted = false

    @Option(
        name: [.customShort("f"), .customLong("report_backup_finished"), .customLong("report-backup-finished")],
        parsing: .unconditional,
        help: ArgumentHelp(
            "The work has ended: 0 success, 1 failed, 2 aborted, 3 warnings, 4 missed, 5 wrong configuration, 255 unknown; any other number up to 255 is interpreted as an exit status.",
            valueName: "result"))
    var result: String?

    @Option(
        name: [.customShort("p"), .customLong("report_backup_progress"), .customLong("report-backup-progress")],
        parsing: .unconditional,
        help: ArgumentHelp("The progress, 0 to 100 percent.", valueName: "percent"))
    var percent: String?

    func validate() throws { _ = try message() }

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let socket = FilePath(try Self.value(of: "PROV_REPORT_SOCKET", in: environment))
        let token = try Self.value(of: "PROV_JOB_TOKEN", in: environment)
        guard socket.isAbsolute else {
            throw CommandFailure(
                "PROV_REPORT_SOCKET is no absolute path: \(socket)",
                hint: "do not change it: the daemon sets it", status: .wrongUsage)
        }
        try await Self.send(ReportRequest(token: token, message: try message()), to: socket)
    }

    /// - Throws: `ValidationError`.
    func message() throws -> ReporterMessage {
        switch (isStarted, result, percent) {
        case (true, nil, nil): return .started
        case (false, let result?, nil): return .finished(try Self.number(result, in: 0...255, of: "-f", "result"))
        case (false, nil, let percent?):
            return .progress(Int(try Self.number(percent, in: 0...100, of: "-p", "percentage")))
        case (false, nil, nil):
            throw ValidationError("Nothing to report: give -r (begun), -p PERCENT or -f RESULT (ended).")
        default: throw ValidationError("Only one report at a time: give -r, -p PERCENT or -f RESULT.")
        }
    }

    private static func number(
        _ text: String, in range: ClosedRange<Int32>, of option: String, _ noun: String
    ) throws -> Int32 {
        guard let number = Int32(text), range.contains(number) else {
            throw ValidationError(
                "\(option): \(OneLine.escaping(String(text.prefix(40)))) is not possible; give a \(noun) from \(range.lowerBound) to \(range.upperBound)."
            )
        }
        return number
    }

    private static func value(of name: String, in environment: [String: String]) throws -> String {
        guard let value = environment[name], !value.isEmpty else {
            throw CommandFailure(
                "\(name) is not set, so this is not the script of a job",
                hint:
                    "report from a script that the daemon runs; if it calls others by sudo or env -i, pass PROV_REPORT_SOCKET and PROV_JOB_TOKEN on",
                status: .wrongUsage)
        }
        return value
    }

    /// - Throws: `CommandFailure` if the report was not accepted.
    private static func send(_ report: ReportRequest, to socket: FilePath) async throws {
        do throws(ControlClientError) {
            _ = try await ControlClient(socket: socket, timeout: .seconds(5)).ask(report, for: Bool.self)
        } catch {
            throw failure(error)
        }
    }

    private static func failure(_ error: ControlClientError) -> CommandFailure {
        switch error {
        case .notListening(let path):
            CommandFailure(
                "no daemon listens on \(path): the daemon that started this script has ended",
                hint: "nothing was reported; start it: systemctl start prov-backup-rsnapshot", status: .unavailable)
        case .notAllowed(let path):
            CommandFailure(
                "\(path) cannot be reached by this user",
                hint: "permit other users to enter the directories above it: chmod o+x", status: .notAllowed)
        case .refused(let failure): failure
        case .failed(let path, .fileNameTooLong):
            CommandFailure(
                "PROV_REPORT_SOCKET is not the daemon's socket: \(path)", hint: "do not change it: the daemon sets it",
                status: .wrongUsage)
        case .tooLarge, .unencodable:
            CommandFailure(error.failure.reason, hint: "do not change PROV_JOB_TOKEN", status: .wrongUsage)
        case .timedOut, .cutOff, .incomprehensible, .failed:
            CommandFailure(error.failure.reason, hint: "nothing was reported", status: .tryAgain)
        }
    }
}
