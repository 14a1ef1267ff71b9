import EventLoop
import Glibc
import SystemPackage

/// As whom a script runs: every right that this process has beyond that user's is given away, and proved to be gone, before the script's
/// first line.
public struct ScriptUser: Hashable, Sendable {
    /// The login name.
    public let name: String
    /// The user's number; never 0.
    public let uid: UInt32
    /// The primary group's number.
    public let gid: UInt32
    /// The supplementary groups' numbers, the primary group among them, as initgroups(3) would set them.
    public let groups: [UInt32]

    /// Asks the system's user and group databases. It may take as long as these do, and holds up nobody else.
    /// - Throws: ``ScriptUserError`` when there is no such user, when the databases do not answer, and for root.
    public static func named(_ name: String) async throws(ScriptUserError) -> ScriptUser {
        try await BlockingWork.run { () -> Result<ScriptUser, ScriptUserError> in
            do throws(ScriptUserError) { return .success(try lookUp(name)) } catch { return .failure(error) }
        }.get()
    }

    private static func lookUp(_ name: String) throws(ScriptUserError) -> ScriptUser {
        // The databases end a name at a NUL: what they would find is another one.
        guard !name.isEmpty, !name.utf8.contains(0) else { throw ScriptUserError(name, .unknown) }
        var record = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var buffer = [CChar](repeating: 0, count: 4096)
        var result = getpwnam_r(name, &record, &buffer, buffer.count, &found)
        while result == ERANGE, buffer.count < 1 << 20 {
            buffer = [CChar](repeating: 0, count: buffer.count * 2)
            result = getpwnam_r(name, &record, &buffer, buffer.count, &found)
        }
        guard found != nil else {
            // "Not there" is said in several ways (getpwnam(3)); every other number means that there was no answer.
            let isAbsent = [0, ENOENT, ESRCH, EBADF, EPERM].contains(result)
            throw ScriptUserError(name, isAbsent ? .unknown : .noAnswer(errno: result))
        }
        guard record.pw_uid != 0 else { throw ScriptUserError(name, .root) }
        return ScriptUser(
            name: name, uid: record.pw_uid, gid: record.pw_gid, groups: try groups(of: name, primary: record.pw_gid))
    }

    private static func groups(of name: String, primary: UInt32) throws(ScriptUserError) -> [UInt32] {
        var count: Int32 = 64
        // Each refusal says how many there are; another one may be added meanwhile.
        for _ in 0..<8 {
            var groups = [gid_t](repeating: 0, count: Int(count))
            if getgrouplist(name, primary, &groups, &count) >= 0 { return groups.prefix(Int(count)).sorted() }
        }
        throw ScriptUserError(name, .noAnswer(errno: ERANGE))
    }

    /// A user as the system's databases tell it.
    init(name: String, uid: UInt32, gid: UInt32, groups: [UInt32]) {
        self.name = name
        self.uid = uid
        self.gid = gid
        self.groups = groups
    }
}

/// Why a script cannot run as a user.
public struct ScriptUserError: Error, Hashable, Sendable {
    /// What kind of fault it is.
    public enum Problem: Hashable, Sendable {
        /// The machine has no such user.
        case unknown
        /// The databases failed to answer, with this number of the C library.
        case noAnswer(errno: Int32)
        /// Root keeps every right, so it is nobody to give rights away to.
        case root
    }

    /// The name that was asked for.
    public var name: String
    /// What is wrong with it.
    public var problem: Problem

    /// A fault as ``ScriptUser`` finds it.
    public init(_ name: String, _ problem: Problem) {
        self.name = name
        self.problem = problem
    }

    /// What another try can be expected to bring.
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
            "\(user), as whom a script is to run, is not known to the system; \(hint)"
        case .noAnswer(let number):
            "\(user), as whom a script is to run: the system's user database did not answer (\(Errno(rawValue: number)), errno \(number)); \(hint)"
        case .root:
            "\(user), as whom a script is to run, has every right; \(hint)"
        }
    }

    /// What fixes it.
    package var hint: String {
        switch problem {
        case .unknown: "correct the setting (getent passwd lists the users), or add the user with useradd"
        case .noAnswer(let number) where Errno(rawValue: number).isShortage:
            Errno(rawValue: number).shortageHint(at: "/etc")
        case .noAnswer: "see what getent passwd says"
        case .root: "leave the setting empty to run scripts as the daemon's user"
        }
    }
}
