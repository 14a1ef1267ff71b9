import CLinux
import Glibc
import SystemPackage

/// The session that a script leads: every process it started that has not made a session of its own.
///
/// Looking for them reads /proc, which is memory: a few microseconds for each process of the machine, so it is done where it is called.
///
/// The leader's number is the session's number. It cannot be given to another process while the leader has not been reaped, so a value of
/// this type is to be used only until then.
struct ScriptSession: Hashable, Sendable {
    struct Member: Hashable, Sendable, CustomStringConvertible {
        var process: pid_t
        var name: String

        var description: String { "\(name) (\(process))" }
    }

    let leader: pid_t

    /// Signals every process of the session.
    ///
    /// The leader's process group gets it in one step, so that no fork slips through; the members of other groups (job control in a shell
    /// makes some) one by one.
    func signal(_ number: Int32) {
        kill(-leader, number)
        do throws(Errno) {
            for member in try members() where getpgid(member.process) != leader {
                // It may have gone since it was listed: then there is nothing to signal.
                _ = clinux_signal_in_session(member.process, leader, number)
            }
        } catch {
            // Without /proc the other groups cannot be found. The sweep at the end meets the same error and reports it.
        }
    }

    /// The processes of the session that are alive; those that have ended and wait to be reaped are not.
    /// - Throws: when /proc cannot be read.
    func members() throws(Errno) -> [Member] {
        guard let folder = opendir("/proc") else { throw Errno(rawValue: errno) }
        defer { closedir(folder) }
        var found: [Member] = []
        while let entry = readdir(folder) {
            let process = withUnsafeBytes(of: &entry.pointee.d_name) { name in
                name.baseAddress.map { pid_t(clamping: strtol($0.assumingMemoryBound(to: CChar.self), nil, 10)) } ?? 0
            }
            // getsid is much cheaper than a file of /proc, and almost every process belongs to another session.
            guard process > 0, getsid(process) == leader, let member = Self.status(of: process) else { continue }
            found.append(member)
        }
        return found
    }

    /// - Returns: nil when the process has ended.
    private static func status(of process: pid_t) -> Member? {
        guard let file = fopen("/proc/\(process)/stat", "re") else { return nil }
        defer { fclose(file) }
        // "pid (name) state …": the name is at most 15 bytes (64 for a kernel thread) and may hold parentheses itself.
        let line = [UInt8](unsafeUninitializedCapacity: 256) { buffer, count in
            count = fread(buffer.baseAddress, 1, buffer.count, file)
        }
        guard let open = line.firstIndex(of: UInt8(ascii: "(")), let close = line.lastIndex(of: UInt8(ascii: ")")),
            open < close, close + 2 < line.count
        else { return nil }
        let state = line[close + 2]
        guard state != UInt8(ascii: "Z"), state != UInt8(ascii: "X") else { return nil }
        return Member(process: process, name: String(decoding: line[(open + 1)..<close], as: UTF8.self))
    }
}
