import CLinux
import EventLoop
import Glibc
package import SystemPackage

/// The user of a script. Every privilege that this process has beyond that user's is dropped, and proved to be gone,
/// before the script's first line.
public struct ScriptUser: Hashable, Sendable {
    /// The login name.
    public let name: String
    /// The uid; never 0.
    public let uid: UInt32
    /// The gid of the primary group.
    public let gid: UInt32
    /// The supplementary groups, including the primary one, as initgroups(3) sets them.
    public let groups: [UInt32]

    /// Looks the user up in the system's user and group databases, which may take long and delays nothing else.
    /// - Throws: ``ScriptUserError`` if there is no such user, if the databases fail, and for root.
    public static func named(_ name: String) async throws(ScriptUserError) -> ScriptUser {
        try await BlockingWork.run { () throws(ScriptUserError) in try lookUp(name) }
    }

    private static func lookUp(_ name: String) throws(ScriptUserError) -> ScriptUser {
        // The databases end a name at a NUL and would find another user.
        guard !name.isEmpty, !name.containsNUL else { throw ScriptUserError(name, .unknown) }
        let found: SystemUser?
        do throws(Errno) { found = try SystemUser.named(name) } catch {
            throw ScriptUserError(name, .noAnswer(errno: error.rawValue))
        }
        guard let found else { throw ScriptUserError(name, .unknown) }
        guard found.uid != 0 else { throw ScriptUserError(name, .root) }
        return ScriptUser(name: name, uid: found.uid, gid: found.gid, groups: try groups(of: name, primary: found.gid))
    }

    private static func groups(of name: String, primary: UInt32) throws(ScriptUserError) -> [UInt32] {
        var count: Int32 = 64
        // Each failure returns the number of groups; groups may be added meanwhile.
        for _ in 0..<8 {
            var groups = [gid_t](repeating: 0, count: Int(count))
            if getgrouplist(name, primary, &groups, &count) >= 0 { return groups.prefix(Int(count)).sorted() }
        }
        throw ScriptUserError(name, .noAnswer(errno: ERANGE))
    }

    init(name: String, uid: UInt32, gid: UInt32, groups: [UInt32]) {
        self.name = name
        self.uid = uid
        self.gid = gid
        self.groups = groups
    }
}

/// A user in the system's user database (nsswitch.conf), which may take long.
package struct SystemUser {
    package let name: String
    package let uid: UInt32
    /// The primary group.
    package let gid: UInt32

    /// - Returns: nil: there is no such user.
    /// - Throws: the error of the database.
    package static func named(_ name: String) throws(Errno) -> Self? {
        // Names from LDAP can be long, and the entry contains the home and the real name too.
        var size = 4096
        while true {
            let (user, result) = withUnsafeTemporaryAllocation(of: CChar.self, capacity: size) { buffer in
                var record = passwd()
                var found: UnsafeMutablePointer<passwd>?
                let result = buffer.baseAddress.map { getpwnam_r(name, &record, $0, size, &found) } ?? ENOMEM
                let name = found == nil ? nil : record.pw_name
                return (name.map { Self(name: String(cString: $0), uid: record.pw_uid, gid: record.pw_gid) }, result)
            }
            if let user { return user }
            // getpwnam(3) reports an unknown user by several numbers; every other number is a failure.
            if [0, ENOENT, ESRCH, EBADF, EPERM].contains(result) { return nil }
            guard result == ERANGE, size < 1 << 20 else { throw Errno(rawValue: result) }
            size *= 2
        }
    }
}

/// Why a script cannot run as a user.
public struct ScriptUserError: Error, Hashable, Sendable {
    /// The kind of error.
    public enum Problem: Hashable, Sendable {
        /// The user does not exist.
        case unknown
        /// The user database failed, with this errno.
        case noAnswer(errno: Int32)
        /// Root would keep every privilege.
        case root
    }

    /// The requested name.
    public var name: String
    /// The error.
    public var problem: Problem

    init(_ name: String, _ problem: Problem) {
        self.name = name
        self.problem = problem
    }

    /// Whether a retry may help.
    public var failureClass: FailureClass {
        switch problem {
        case .noAnswer(let number): FailureClass(Errno(rawValue: number)) ?? .retryable
        case .unknown, .root: .configuration
        }
    }
}

extension ScriptUserError: CustomStringConvertible {
    /// `user "name" reason; hint`
    public var description: String {
        let user = "user \"\(OneLine.escaping(name))\""
        return switch problem {
        case .unknown:
            "\(user) of a script does not exist; \(hint)"
        case .noAnswer(let number):
            "\(user) of a script: the system's user database failed (\(Errno(rawValue: number)), errno \(number)); \(hint)"
        case .root:
            "\(user) of a script must not be root; \(hint)"
        }
    }

    /// How to fix it.
    package var hint: String {
        switch problem {
        case .unknown: "correct the setting (getent passwd lists the users), or add the user with useradd"
        case .noAnswer(let number) where Errno(rawValue: number).isShortage:
            Errno(rawValue: number).shortageHint(at: "/etc")
        case .noAnswer: "check the output of getent passwd"
        case .root: "leave the setting empty to run scripts as the daemon's user"
        }
    }
}

/// Starts a script as another user: this program starts itself under another name (`start.c` of CLinux), drops its
/// privileges, proves that, and executes the script.
///
/// The starter reports through a pipe that the script does not inherit. The pipe is read when the script has ended;
/// the report is too short to block. A script without a user has no starter.
final class ScriptStarter: Sendable {
    private let invocation: ScriptInvocation
    private let user: ScriptUser
    private let pipe: (readEnd: FileDescriptor, writeEnd: FileDescriptor)

    /// - Returns: nil if the script has no user.
    init?(for invocation: ScriptInvocation) throws(Errno) {
        guard let user = invocation.user else { return nil }
        (self.invocation, self.user) = (invocation, user)
        pipe = try FileDescriptor.pipe(options: [.closeOnExec, .nonBlocking])
    }

    deinit {
        try? pipe.readEnd.close()
        try? pipe.writeEnd.close()
    }

    /// This program in place of the script.
    var program: ChildProcess.Program {
        var program = invocation.program
        program.path = "/proc/self/exe"
        program.name = String(cString: clinux_start_name())
        program.arguments = [user.starterInstructions, invocation.executable.string] + invocation.arguments
        return program
    }

    /// The starter's standard input: the writing end of the pipe. Valid for the lifetime of this value.
    var input: FileDescriptor { pipe.writeEnd }

    /// The starter's report. Called when the process has ended.
    /// - Returns: nil if the script was executed.
    func failure() -> ScriptError? {
        // READY, and a second report if exec failed.
        var reports = [clinux_start_report](repeating: clinux_start_report(), count: 2)
        let count = reports.withUnsafeMutableBytes { read(pipe.readEnd.rawValue, $0.baseAddress, $0.count) }
        let received = reports.prefix(max(0, count) / MemoryLayout<clinux_start_report>.size)
        guard let last = received.last else {
            return ScriptError(
                .other, path: invocation.executable,
                reason: "was not started: the process that sets its user ended without a report",
                hint: "check that the daemon's program can be executed (see its output and the kernel's log)")
        }
        return last.step == CLINUX_START_READY ? nil : ScriptError(last, of: invocation, user: user)
    }
}

extension ScriptUser {
    /// Numbers, each followed by a blank, in the order of `clinux.h`.
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
                    "run the daemon as root with all its capabilities, or leave the setting that names the user empty"
            )
        case CLINUX_START_PROOF:
            self.init(
                .user, path: path, errno: number,
                reason: "was not started: it still had privileges beyond those of \(user) (proof \(report.detail))",
                hint:
                    "leave the setting that names the user empty, or find out why the daemon's children have privileges"
            )
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
                hint: "check that /dev/null exists and that descriptors are available")
        }
    }
}
