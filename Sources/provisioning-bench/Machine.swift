import FoundationEssentials
import Glibc
import SystemPackage

/// What a run is on and what takes part, in the words of the system.
enum Machine {
    static func facts() throws -> [BenchReport.Fact] {
        var name = utsname()
        uname(&name)
        func text<Tuple>(_ tuple: Tuple) -> String {
            withUnsafeBytes(of: tuple) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        }
        let processors = try Files.read("/proc/cpuinfo").split(separator: "\n")
        let model = processors.first { $0.hasPrefix("model name") }?.split(separator: ":").last
        let memory = ProcessFacts.number("MemTotal", in: try Files.read("/proc/meminfo")) * 1024
        let load = try Files.read("/proc/loadavg").split(separator: " ").prefix(3).joined(separator: " ")
        return [
            BenchReport.Fact("processor", model.map { String($0.drop { $0 == " " }) } ?? text(name.machine)),
            BenchReport.Fact("processors", "\(sysconf(Int32(_SC_NPROCESSORS_ONLN)))"),
            BenchReport.Fact("memory_mb", "\(memory / 1_000_000)"),
            BenchReport.Fact("kernel", "\(text(name.sysname)) \(text(name.release)) \(text(name.machine))"),
            BenchReport.Fact("load_at_start", load),
        ]
    }

    static func versions() async -> [BenchReport.Fact] {
        let asked: [(String, FilePath, [String])] = [
            ("prov-backup-rsnapshot", (try? DaemonRun.program()) ?? "/", ["--version"]),
            ("slapd", "/usr/sbin/slapd", ["-VV"]), ("rsnapshot", "/usr/bin/rsnapshot", ["version"]),
            ("perl", "/usr/bin/perl", ["-e", "print $^V"]),
            ("net-ldap", "/usr/bin/perl", ["-MNet::LDAP", "-e", "print $Net::LDAP::VERSION"]),
            ("swift", "/usr/bin/env", ["swift", "--version"]),
        ]
        var facts: [BenchReport.Fact] = []
        for (name, program, arguments) in asked {
            let path = getenv("PATH").map { String(cString: $0) } ?? ""
            let environment = name == "swift" ? ["PATH": path] : [:]
            let said = try? await Tool.run(program, arguments, environment: environment, merging: true)
            let line = said?.split(separator: "\n").first { $0.contains { $0.isNumber } }
            facts.append(BenchReport.Fact(name, line.map { $0.trimming { $0.isWhitespace } } ?? "not found"))
        }
        return facts
    }
}

extension Substring {
    fileprivate func trimming(_ unwanted: (Character) -> Bool) -> String {
        String(String(drop(while: unwanted)).reversed().drop(while: unwanted).reversed())
    }
}
