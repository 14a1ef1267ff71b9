import CLinux
import EventLoop
import Glibc
import SystemPackage

/// The process of a script, from its start until it is reaped, and what we hold of it.
final class ScriptProcess: Sendable {
    /// Its number, which can be nobody else's until it is reaped.
    let number: pid_t
    /// A pidfd(2), which can be read when the process has ended.
    let handle: Int32
    /// Where its output comes from. Reading never blocks.
    let output: Int32
    /// Where its reports come from; -1: it makes none. Reading never blocks.
    private let reportPipe: Int32
    /// Everything that it starts.
    let session: ScriptSession
    /// Why it did not become the script, when it is asked for after the end; nil: it did.
    let starter: ScriptStarter?

    private init(_ started: Started, output: Int32, reports: Int32, starter: ScriptStarter?) {
        number = started.number
        handle = started.handle
        self.output = output
        reportPipe = reports
        session = ScriptSession(leader: started.number, extent: started.extent)
        self.starter = starter
    }

    deinit {
        close(handle)
        close(output)
        if reportPipe >= 0 { close(reportPipe) }
    }

    /// Starts a script. It blocks until the kernel has loaded the program, from whatever file system.
    /// - Parameter parent: where it gets a cgroup; nil: it gets an init process.
    convenience init(starting invocation: ScriptInvocation, in parent: CgroupParent?) throws(ScriptError) {
        let reservation: StartReservation
        let starter: ScriptStarter?
        do throws(Errno) {
            reservation = try StartReservation()
            starter = try ScriptStarter(for: invocation)
        } catch {
            throw .start(of: invocation, errno: error)
        }
        defer { reservation.release() }
        var pipe: [Int32] = [-1, -1]
        var reports: [Int32] = [-1, -1]
        guard clinux_output_pipe(&pipe) == 0 else { throw .start(of: invocation, errno: Errno(rawValue: errno)) }
        guard !invocation.hasReports || clinux_output_pipe(&reports) == 0 else {
            let reason = Errno(rawValue: errno)
            Self.closeAll(pipe)
            throw .start(of: invocation, errno: reason)
        }
        let started: Started
        do throws(ScriptError) {
            defer { Self.closeAll([pipe[1], reports[1]]) }
            let cgroup = try Self.cgroup(for: invocation, in: parent)
            do throws(ScriptError) {
                started = try Self.spawn(invocation, by: starter, output: pipe[1], reports: reports[1], in: cgroup)
            } catch {
                if let cgroup { CgroupParent.remove(cgroup) }
                throw error
            }
        } catch {
            Self.closeAll([pipe[0], reports[0]])
            throw error
        }
        self.init(started, output: pipe[0], reports: reports[0], starter: starter)
    }

    private static func cgroup(
        for invocation: ScriptInvocation, in parent: CgroupParent?
    ) throws(ScriptError) -> ScriptCgroup? {
        do throws(Errno) {
            return try parent?.make(for: invocation.environment[RunningAttempt.reportSocketVariable])
        } catch {
            let path = parent?.path.printable ?? ""
            throw ScriptError(
                .resources, path: invocation.executable, errno: error,
                reason: "was not started: no cgroup could be made for it in \(path)",
                hint: "see how many there are (cgroup.max.descendants, cgroup.stat), or restart the daemon")
        }
    }

    /// Gives back what only a running script needs. It blocks.
    func removeCgroup() {
        if case .cgroup(let cgroup) = session.extent { CgroupParent.remove(cgroup) }
    }

    private static func closeAll(_ descriptors: [Int32]) {
        for descriptor in descriptors where descriptor >= 0 { close(descriptor) }
    }

    /// What it has reported so far, up to what one pipe holds. To be asked for when it has ended.
    func reports() -> [UInt8] {
        guard reportPipe >= 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: Self.longestReports) { buffer, count in
            count = max(0, read(reportPipe, buffer.baseAddress, buffer.count))
        }
    }

    private static let longestReports = 64 * 1024

    /// Ends what the kernel refuses to tell of. It blocks until it has gone.
    func lost(errno reason: Errno, of invocation: ScriptInvocation) -> ScriptError {
        kill(-number, SIGKILL)
        _ = session.killAll()
        _ = try? reap()
        removeCgroup()
        return ScriptError(
            .lost, path: invocation.executable, errno: reason,
            reason: "was started and then lost sight of, and ended",
            hint: "look for what is left of it before it is run again")
    }

    /// What there is of a script that has begun.
    private struct Started {
        var number: pid_t
        var handle: Int32
        var extent: ScriptSession.Extent
    }

    private static func spawn(
        _ invocation: ScriptInvocation, by starter: ScriptStarter?, output: Int32, reports: Int32,
        in cgroup: ScriptCgroup?
    ) throws(ScriptError) -> Started {
        let directory = invocation.workingDirectory.withPlatformString {
            open($0, CLINUX_O_PATH | O_DIRECTORY | O_CLOEXEC)
        }
        guard directory >= 0 else { throw .workingDirectory(of: invocation, errno: Errno(rawValue: errno)) }
        defer { close(directory) }
        var (number, handle): (pid_t, Int32) = (0, -1)
        var root = clinux_init(process: 0, control: -1)
        let arguments = starter?.arguments ?? [invocation.executable.string] + invocation.arguments
        let fault = (starter?.executable ?? invocation.executable).withPlatformString { path in
            withCStrings(arguments) { arguments in
                withCStrings(invocation.environment.map { "\($0.key)=\($0.value)" }) { environment in
                    var program = clinux_program(
                        path: path, arguments: arguments, environment: environment, directory: directory,
                        input: starter?.input ?? -1, output: output, error: output, reports: reports,
                        cgroup: cgroup?.directory ?? -1, dies_with_parent: cgroup == nil ? 1 : 0)
                    guard cgroup == nil else { return clinux_spawn(&number, &handle, &program) }
                    let isTied: Int32 = invocation.isTiedToProcess ? 1 : 0
                    return clinux_spawn_with_init(&root, &number, &handle, &program, isTied)
                }
            }
        }
        guard fault != 0 else {
            let below = { ScriptSession.Extent.descendants(of: ScriptInit(root, of: number, handle: handle)) }
            return Started(number: number, handle: handle, extent: cgroup.map { .cgroup($0) } ?? below())
        }
        guard fault != ECHILD else { throw .lostBelowInit(of: invocation) }
        guard faccessat(directory, ".", X_OK, AT_EACCESS) == 0 else {
            throw .workingDirectory(of: invocation, errno: Errno(rawValue: errno))
        }
        throw .start(of: invocation, errno: Errno(rawValue: fault))
    }

    /// Takes the process's end from the kernel, which then may give its number to another. Only when it has ended: else it blocks.
    func reap() throws(Errno) -> ScriptResult.Termination {
        var status: Int32 = 0
        if case .descendants(let root) = session.extent {
            status = try root.end()
        } else {
            while waitpid(number, &status, 0) < 0 {
                guard errno == EINTR else { throw Errno(rawValue: errno) }
            }
        }
        // As wait(2) says: the signal in the lowest seven bits, else the exit status in the next eight.
        let signal = status & 0x7f
        return signal == 0 ? .exited(code: status >> 8 & 0xff) : .signaled(number: signal)
    }
}
