import CLinux
import Glibc
import SystemPackage

/// Gives a script its user, where it has one: by this very program, started once more under another name
/// (`start.c` of CLinux), which becomes the script when all is set and proved.
///
/// What the starter has to say comes through a pipe that the script does not get, and is read when the script has ended: it is too little to
/// have to wait for room. A script without a user has no starter.
final class ScriptStarter: Sendable {
    /// This very program.
    let executable: FilePath = "/proc/self/exe"
    private let invocation: ScriptInvocation
    private let user: ScriptUser
    private let pipe: (reading: Int32, writing: Int32)

    /// - Returns: nil when the script needs none.
    init?(for invocation: ScriptInvocation) throws(Errno) {
        guard let user = invocation.user else { return nil }
        (self.invocation, self.user) = (invocation, user)
        var ends: [Int32] = [-1, -1]
        guard clinux_pipe(&ends) == 0 else { throw Errno(rawValue: errno) }
        pipe = (ends[0], ends[1])
    }

    deinit {
        close(pipe.reading)
        close(pipe.writing)
    }

    /// Its argument vector, argument 0 first.
    var arguments: [String] {
        [String(cString: clinux_start_name()), user.starterInstructions, invocation.executable.string]
            + invocation.arguments
    }

    /// The starter's standard input: the end of the pipe that it writes to. It is valid for as long as this value lives.
    var input: Int32 { pipe.writing }

    /// What the starter said. To be asked for when the process has ended.
    /// - Returns: nil when the script did begin.
    func failure() -> ScriptError? {
        // READY, and one more where exec failed.
        var reports = [clinux_start_report](repeating: clinux_start_report(), count: 2)
        let count = reports.withUnsafeMutableBytes { read(pipe.reading, $0.baseAddress, $0.count) }
        let said = reports.prefix(max(0, count) / MemoryLayout<clinux_start_report>.size)
        guard let last = said.last else {
            return ScriptError(
                .other, path: invocation.executable,
                reason: "was not started: the step before it, which sets its user, ended without a word",
                hint: "see whether the daemon's own program can still be run (its output tells, or the kernel's log)")
        }
        return last.step == CLINUX_START_READY ? nil : ScriptError(last, of: invocation, user: user)
    }
}

extension ScriptUser {
    /// Numbers with a blank after each, in the order of `clinux.h`.
    fileprivate var starterInstructions: String {
        ([uid, gid, UInt32(groups.count)] + groups).map { "\($0) " }.joined()
    }
}

extension ScriptError {
    fileprivate init(_ report: clinux_start_report, of invocation: ScriptInvocation, user: ScriptUser) {
        let path = invocation.executable
        let number = Errno(rawValue: report.number)
        let user = "\(OneLine.escaping(user.name)) (\(user.uid))"
        switch report.step {
        case CLINUX_START_GROUPS, CLINUX_START_USER, CLINUX_START_CAPABILITIES:
            self.init(
                .user, path: path, errno: number, reason: "was not started: it could not be run as \(user)",
                hint:
                    "run the daemon as root with all of its capabilities, or leave the setting that names the user empty"
            )
        case CLINUX_START_PROOF:
            self.init(
                .user, path: path, errno: number,
                reason: "was not started: rights beyond those of \(user) were still there (proof \(report.detail))",
                hint: "leave the setting that names the user empty, or find what gives the daemon's children rights")
        case CLINUX_START_EXEC where number == .permissionDenied:
            self.init(
                .user, path: path, errno: number, reason: "cannot be reached or executed by \(user)",
                hint:
                    "let \(user) enter every directory above it and execute it (namei -l \(path.shellWord) shows each)")
        case CLINUX_START_EXEC:
            self = .start(of: invocation, errno: number)
        default:
            self.init(
                .resources, path: path, errno: number, reason: "was not started: its input could not be prepared",
                hint: "see that /dev/null is there and that descriptors are left")
        }
    }
}
