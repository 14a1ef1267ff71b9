import Glibc

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
