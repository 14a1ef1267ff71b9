import Glibc
import JobCore
package import SystemPackage

extension Requirement {
    /// Requirements of every service on the machine: room on the disks, a synchronized clock, protected hard links. Changes nothing.
    /// - Parameters:
    ///   - places: directories that are written to, with their keys in the settings. If one does not exist, the nearest directory above it is
    ///     examined; each file system is examined once.
    ///   - kernelSettings: `/proc/sys` (proc(5)).
    package static func ofMachine(
        places: [(name: String, path: FilePath)], kernelSettings: FilePath = "/proc/sys"
    ) -> [Requirement] {
        rooms(places) + [clock(.current), hardLinks(kernelSettings)]
    }

    // MARK: - Room

    /// The free space of a file system for users other than root (statvfs(3)).
    struct Room: Hashable {
        var size: UInt64
        var free: UInt64
        /// 0 if the file system makes inodes as needed, like btrfs.
        var inodes: UInt64 = 0
        var freeInodes: UInt64 = 0

        init(size: UInt64, free: UInt64, inodes: UInt64 = 0, freeInodes: UInt64 = 0) {
            (self.size, self.free, self.inodes, self.freeInodes) = (size, free, inodes, freeInodes)
        }

        init(_ path: FilePath) throws(Errno) {
            var values = statvfs()
            guard statvfs(path.string, &values) == 0 else { throw Errno(rawValue: errno) }
            self.init(
                size: UInt64(values.f_blocks) * UInt64(values.f_frsize),
                free: UInt64(values.f_bavail) * UInt64(values.f_frsize), inodes: UInt64(values.f_files),
                freeInodes: UInt64(values.f_favail))
        }

        /// 1 % of the file system, at least 16 MiB and at most 1 GiB.
        private var neededBytes: UInt64 { min(max(size / 100, 16 << 20), 1 << 30) }
        /// 1 % of the inodes, at least 100 and at most 100,000.
        private var neededInodes: UInt64 { min(max(inodes / 100, 100), 100_000) }

        /// nil: there is enough room.
        var shortage: String? {
            if free < neededBytes {
                return "has \(Self.mebibytes(free)) MiB free, and should have \(Self.mebibytes(neededBytes))"
            }
            if inodes > 0, freeInodes < neededInodes {
                return "has \(freeInodes) inodes free, and should have \(neededInodes)"
            }
            return nil
        }

        var text: String {
            "\(Self.mebibytes(free)) MiB" + (inodes > 0 ? " and \(freeInodes) inodes" : "") + " free"
        }

        private static func mebibytes(_ bytes: UInt64) -> UInt64 { bytes >> 20 }
    }

    private static func rooms(_ places: [(name: String, path: FilePath)]) -> [Requirement] {
        var findings: [Requirement] = []
        var seen: [dev_t: Int] = [:]
        for place in places {
            let directory = nearest(place.path)
            var status = stat()
            guard stat(directory.string, &status) == 0 else { continue }
            if let index = seen[status.st_dev] {
                if !findings[index].subject.hasSuffix(place.name) { findings[index].subject += ", \(place.name)" }
                continue
            }
            seen[status.st_dev] = findings.count
            findings.append(room(place.name, directory))
        }
        for index in findings.indices { findings[index].subject = "room (\(findings[index].subject))" }
        return findings
    }

    private static func room(_ name: String, _ path: FilePath) -> Requirement {
        do throws(Errno) {
            let room = try Room(path)
            guard let shortage = room.shortage else { return .met(name, "\(path): \(room.text)") }
            return .unmet(
                name, "the file system of \(path) \(shortage)",
                hint: "make room or enlarge it: see df -h \(path.shellWord) and df -i \(path.shellWord)")
        } catch {
            return .unmet(name, "\(path) cannot be examined: \(error)", hint: "see df \(path.shellWord)")
        }
    }

    private static func nearest(_ path: FilePath) -> FilePath {
        var path = path
        while access(path.string, F_OK) != 0, path.removeLastComponent() {}
        return path
    }

    // MARK: - The kernel

    /// Schedules, dated requests and the times of snapshots depend on the clock.
    static func clock(_ state: ClockSynchronization) -> Requirement {
        switch state {
        case .synchronized: .met("clock", "synchronized")
        case .container: .note("clock", "is not known in a container; on the host, run: timedatectl")
        case .unsynchronized:
            .unmet(
                "clock", "the kernel's clock is not synchronized: schedules and dates may be wrong",
                hint: "apt install systemd-timesyncd (or chrony with rtcsync), then check: timedatectl")
        case .unknown(let reason): .note("clock", "is not known: \(reason)")
        }
    }

    /// Without this a customer can make hard links to files of other users.
    private static func hardLinks(_ kernelSettings: FilePath) -> Requirement {
        let name = "fs.protected_hardlinks"
        let file = kernelSettings.appending("fs").appending("protected_hardlinks")
        do {
            let text = String(decoding: try FileDescriptor.bytes(at: file), as: UTF8.self)
            let value = text.trimmingPrefix { $0.isWhitespace }.prefix { !$0.isWhitespace }
            guard value != "1" else { return .met(name, "1") }
            return .unmet(
                name, "is \(value): a customer can link files of others into its own tree",
                hint: "echo '\(name) = 1' > /etc/sysctl.d/90-hardlinks.conf; sysctl --system")
        } catch {
            return .note(name, "is not known: \(file): \(error)")
        }
    }
}
