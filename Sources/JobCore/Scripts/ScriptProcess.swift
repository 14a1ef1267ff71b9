import CLinux
import EventLoop
import Glibc
import Synchronization
import SystemPackage

/// The process of a script from its start until it is reaped, with its descriptors.
final class ScriptProcess: Sendable {
    /// The process id, which is not reused until the process is reaped.
    let number: pid_t
    /// A pidfd(2), which becomes readable when the process has ended.
    let handle: Int32
    /// The reading end of its output pipe; non-blocking.
    let output: Int32
    /// The reading end of its report pipe; non-blocking; -1: it has none.
    private let reportPipe: Int32
    /// The script and the processes that it starts.
    let tree: ProcessTree
    /// Reports after the end why the script was not executed; nil: there is no starter.
    let starter: ScriptStarter?

    private init(_ started: Started, output: Int32, reports: Int32, starter: ScriptStarter?) {
        number = started.number
        handle = started.handle
        self.output = output
        reportPipe = reports
        tree = ProcessTree(leader: started.number, extent: started.extent)
        self.starter = starter
    }

    deinit {
        close(handle)
        close(output)
        if reportPipe >= 0 { close(reportPipe) }
    }

    /// Starts a script. It blocks until the kernel has loaded the program from its file system.
    /// - Parameter parent: where to create a cgroup for it; nil: it gets an init process.
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
                reason: "was not started: no cgroup could be created for it in \(path)",
                hint: "check the number of cgroups (cgroup.max.descendants, cgroup.stat), or restart the daemon")
        }
    }

    /// Removes its cgroup, if it has one. It blocks.
    func removeCgroup() {
        if case .cgroup(let cgroup) = tree.extent { CgroupParent.remove(cgroup) }
    }

    private static func closeAll(_ descriptors: [Int32]) {
        for descriptor in descriptors where descriptor >= 0 { close(descriptor) }
    }

    /// Its reports, up to the capacity of a pipe. Called when it has ended.
    func reports() -> [UInt8] {
        guard reportPipe >= 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: Self.longestReports) { buffer, count in
            count = max(0, read(reportPipe, buffer.baseAddress, buffer.count))
        }
    }

    private static let longestReports = 64 * 1024

    /// Ends a process that cannot be watched.
    func lost(errno reason: Errno, of invocation: ScriptInvocation) async -> ScriptError {
        kill(-number, SIGKILL)
        await BlockingWork.run { _ = self.tree.killAll() }
        _ = try? await reap()
        await BlockingWork.run { self.removeCgroup() }
        return ScriptError(
            .lost, path: invocation.executable, errno: reason,
            reason: "was started, could not be watched, and was killed",
            hint: "end its leftover processes (ps -ef) before running it again")
    }

    /// The parts of a started script.
    private struct Started {
        var number: pid_t
        var handle: Int32
        var extent: ProcessTree.Extent
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
            let below = { ProcessTree.Extent.descendants(of: ScriptInit(root, of: number, handle: handle)) }
            return Started(number: number, handle: handle, extent: cgroup.map { .cgroup($0) } ?? below())
        }
        guard fault != ECHILD else { throw .lostBelowInit(of: invocation) }
        guard faccessat(directory, ".", X_OK, AT_EACCESS) == 0 else {
            throw .workingDirectory(of: invocation, errno: Errno(rawValue: errno))
        }
        throw .start(of: invocation, errno: Errno(rawValue: fault))
    }

    /// Reaps the process when it has ended; its number may then be reused.
    /// - Returns: nil if another process holds its end back (``Reaper``).
    func reap() async throws(Errno) -> TerminationStatus? {
        guard case .descendants(let root) = tree.extent else { return try await Reaper.reap(number) }
        // An init process may have to wait for a CPU.
        return try await BlockingWork.run { () throws(Errno) in TerminationStatus(waitStatus: try root.end()) }
    }
}

/// Reserves the descriptors for the start of a process.
///
/// A start is refused if there are not enough descriptors for it, for all other starts in progress and for the rest
/// of the program. A refused start leaves no trace.
final class StartReservation: Sendable {
    /// Two for output, one each for input, working directory and process, two for the cgroup or the init process, two
    /// for the starter, two for reports, one spare.
    private static let perStart = 12
    /// For sockets and files that other code opens meanwhile.
    private static let forOthers = 24

    private static let underWay = Atomic(0)

    private let isHeld = Atomic(true)

    init() throws(Errno) {
        let starts = Self.underWay.add(1, ordering: .sequentiallyConsistent).newValue
        do throws(Errno) {
            guard try Self.freeDescriptors() >= starts * Self.perStart + Self.forOthers else {
                throw Errno.tooManyOpenFiles
            }
        } catch {
            release()
            throw error
        }
    }

    /// Ends the reservation when the process has been started.
    func release() {
        if isHeld.exchange(false, ordering: .sequentiallyConsistent) {
            Self.underWay.subtract(1, ordering: .sequentiallyConsistent)
        }
    }

    deinit { release() }

    private static func freeDescriptors() throws(Errno) -> Int {
        var limit = rlimit()
        var status = stat()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, stat("/proc/self/fd", &status) == 0
        else { throw Errno(rawValue: errno) }
        // The number of open descriptors, in kernels from 6.2 on; 0 in others.
        if status.st_size > 0 { return Int(clamping: limit.rlim_cur) - Int(status.st_size) }
        guard let directory = opendir("/proc/self/fd") else { throw Errno(rawValue: errno) }
        defer { closedir(directory) }
        var open = 0
        while let entry = readdir(directory) {
            // Not "." and "..".
            if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { open += 1 }
        }
        return Int(clamping: limit.rlim_cur) - open
    }
}

/// Limits of this process that the programs it starts do not inherit.
package enum OwnProcess {
    /// Raises the soft limit on open files to the hard limit. Programs that use select(2) need the usual soft limit,
    /// so scripts get that.
    package static func raiseOpenFiles() { clinux_raise_open_files() }

    /// Disables core dumps, which would contain passwords, independent of limits and core_pattern (core(5)). Programs
    /// that it starts are not affected.
    package static func forbidCoreDumps() { clinux_forbid_core_dumps() }
}
