import Glibc
import JobCore
package import SystemPackage

/// What any service needs of the machine besides its own programs and directories: room on the disks, and a clock that is right.
/// Changes nothing.
package struct MachineRequirements: Sendable {
    private let places: [Place]
    private let kernelSettings: FilePath

    /// A directory that is written to.
    package struct Place: Hashable, Sendable {
        /// What it is called in the settings.
        package var name: String
        /// The directory; where it is not there yet, the nearest one above it counts.
        package var path: FilePath

        /// A directory that is written to.
        package init(_ name: String, _ path: FilePath) {
            self.name = name
            self.path = path
        }
    }

    /// - Parameters:
    ///   - places: on one file system or several; each file system is looked at once.
    ///   - kernelSettings: where the kernel shows its settings (proc(5), `/proc/sys`).
    package init(places: [Place], kernelSettings: FilePath = "/proc/sys") {
        self.places = places
        self.kernelSettings = kernelSettings
    }

    /// Everything that is needed, met or not.
    package func findings() -> [Requirement] { rooms() + [Self.clock(.current), hardLinks()] }

    // MARK: - Room

    /// What a file system has left for those who are not root, as statvfs(3) says.
    struct Room: Hashable {
        var size: UInt64
        var free: UInt64
        /// 0 where the file system makes inodes as it needs them, as btrfs does.
        var inodes: UInt64
        var freeInodes: UInt64

        init(size: UInt64, free: UInt64, inodes: UInt64 = 0, freeInodes: UInt64 = 0) {
            self.size = size
            self.free = free
            self.inodes = inodes
            self.freeInodes = freeInodes
        }

        init(_ path: FilePath) throws(Errno) {
            var values = statvfs()
            guard statvfs(path.string, &values) == 0 else { throw Errno(rawValue: errno) }
            self.init(
                size: UInt64(values.f_blocks) * UInt64(values.f_frsize),
                free: UInt64(values.f_bavail) * UInt64(values.f_frsize), inodes: UInt64(values.f_files),
                freeInodes: UInt64(values.f_favail))
        }

        /// A hundredth of the file system, at least 16 MiB and at most 1 GiB.
        private var neededBytes: UInt64 { min(max(size / 100, 16 << 20), 1 << 30) }
        /// A hundredth of them, at least 100 and at most 100,000.
        private var neededInodes: UInt64 { min(max(inodes / 100, 100), 100_000) }

        /// What is short; nil when nothing is.
        var shortage: String? {
            if free < neededBytes {
                return "has \(Self.mebibytes(free)) MiB free, and should have \(Self.mebibytes(neededBytes))"
            }
            if inodes > 0, freeInodes < neededInodes {
                return "has \(freeInodes) inodes free, and should have \(neededInodes)"
            }
            return nil
        }

        /// What is left, in words.
        var text: String {
            "\(Self.mebibytes(free)) MiB" + (inodes > 0 ? " and \(freeInodes) inodes" : "") + " free"
        }

        private static func mebibytes(_ bytes: UInt64) -> UInt64 { bytes >> 20 }
    }

    private func rooms() -> [Requirement] {
        var findings: [Requirement] = []
        var seen: [dev_t: Int] = [:]
        for place in places {
            let directory = Self.nearest(place.path)
            var status = stat()
            guard stat(directory.string, &status) == 0 else { continue }
            if let index = seen[status.st_dev] {
                if !findings[index].subject.hasSuffix(place.name) { findings[index].subject += ", \(place.name)" }
                continue
            }
            seen[status.st_dev] = findings.count
            findings.append(Self.room(place.name, directory))
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

    /// Schedules, dated requests and the times of snapshots rest on it.
    static func clock(_ state: ClockSynchronization) -> Requirement {
        switch state {
        case .synchronized: .met("clock", "synchronized")
        case .container: .note("clock", "is not known in a container: look at the host that keeps its clock")
        case .unsynchronized:
            .unmet(
                "clock", "the kernel's clock is not synchronized: schedules and dates may be wrong",
                hint: "apt install systemd-timesyncd (or chrony with rtcsync), and look at timedatectl")
        case .unknown(let reason): .note("clock", "is not known: \(reason)")
        }
    }

    /// Without it a customer can make a hard link to anybody's file in its own tree.
    private func hardLinks() -> Requirement {
        let name = "fs.protected_hardlinks"
        let file = kernelSettings.appending("fs").appending("protected_hardlinks")
        do {
            let text = String(decoding: try SmallFile.bytes(at: file), as: UTF8.self)
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
