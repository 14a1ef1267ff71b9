import CLinux
import EventLoop
import Glibc
import Synchronization
import SystemPackage

/// A started script: its own process, and what is needed to find all others that it starts.
struct ScriptProcess: Sendable {
    let child: ChildProcess
    /// The script and the processes that it starts.
    let tree: ProcessTree
    /// Reports after the end why the script was not executed; nil: there is no starter.
    let starter: ScriptStarter?

    /// Starts a script in a cgroup of its own or, where this process can make none, below an init process of its own. It blocks until the kernel has
    /// loaded the program from its file system. ``watch(_:)`` has to be called next.
    /// - Parameters:
    ///   - usesCgroups: false: never.
    ///   - error: nil: the same as the output.
    init(
        starting invocation: ScriptInvocation, usesCgroups: Bool = true, input: ChildProcess.Input = .empty,
        output: ChildProcess.Output, error: ChildProcess.Output? = nil, reports: ChildProcess.Output? = nil
    ) throws(ScriptError) {
        let starts = Self.startsUnderWay.add(1, ordering: .sequentiallyConsistent).newValue
        defer { Self.startsUnderWay.subtract(1, ordering: .sequentiallyConsistent) }
        guard Self.freeDescriptors >= starts * Self.descriptorsPerStart + Self.descriptorsForOthers else {
            throw .start(of: invocation, errno: .tooManyOpenFiles)
        }
        let cgroup = usesCgroups ? try Self.cgroup(for: invocation) : nil
        do throws(Errno) {
            starter = try ScriptStarter(for: invocation)
            child = try ChildProcess(
                starting: starter?.program ?? invocation.program, input: starter.map { .file($0.input) } ?? input,
                output: output, error: error, reports: reports,
                in: cgroup.map { .cgroup($0.directory) } ?? .initProcess(isTied: invocation.isTiedToProcess))
        } catch {
            if let cgroup { CgroupParent.remove(cgroup) }
            throw .start(of: invocation, errno: error)
        }
        let root = ScriptInit(child.initProcess, of: child.id, handle: child.handle)
        tree = ProcessTree(leader: child.id, extent: cgroup.map { .cgroup($0) } ?? .descendants(of: root))
    }

    private static func cgroup(for invocation: ScriptInvocation) throws(ScriptError) -> ScriptCgroup? {
        guard case .success(let parent) = CgroupParent.own else { return nil }
        do throws(Errno) {
            return try parent.make(for: invocation.environment[RunningAttempt.reportSocketVariable])
        } catch {
            throw ScriptError(
                .resources, path: invocation.executable, errno: error,
                reason: "was not started: no cgroup could be created for it in \(parent.path.printable)",
                hint: "check the number of cgroups (cgroup.max.descendants, cgroup.stat), or restart the daemon")
        }
    }

    /// Begins to report its output and its end.
    /// - Throws: if it cannot be watched; then it was killed.
    @MainActor func watch(_ invocation: ScriptInvocation) async throws(ScriptError) {
        do throws(Errno) {
            try child.watch()
        } catch {
            child.kill()
            await BlockingWork.run { _ = tree.killAll() }
            await child.reap()
            await BlockingWork.run { removeCgroup() }
            throw ScriptError(
                .lost, path: invocation.executable, errno: error,
                reason: "was started, could not be watched, and was killed",
                hint: "end its leftover processes (ps -ef) before running it again")
        }
    }

    /// Removes its cgroup, if it has one. It blocks.
    func removeCgroup() {
        if case .cgroup(let cgroup) = tree.extent { CgroupParent.remove(cgroup) }
    }

    // MARK: - Descriptors

    // A start is refused if there are not enough descriptors for it, for all other starts in progress and for the rest of the program. A refused
    // start leaves no trace.

    /// The descriptors that a start needs: two each for output, reports, starter, and cgroup or init process; one each for working directory, input and
    /// process; one spare.
    private static let descriptorsPerStart = 12
    /// The descriptors that are kept free for sockets and files that other code opens meanwhile.
    private static let descriptorsForOthers = 24

    private static let startsUnderWay = Atomic(0)

    /// 0: unknown, since there is none left to count them.
    private static var freeDescriptors: Int {
        var limit = rlimit()
        var status = stat()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, stat("/proc/self/fd", &status) == 0
        else { return 0 }
        // The number of open descriptors, in kernels from 6.2 on; 0 in others.
        let open = status.st_size > 0 ? Int(status.st_size) : (try? FilePath("/proc/self/fd").entries().count) ?? .max
        return max(0, Int(clamping: limit.rlim_cur) - open)
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
