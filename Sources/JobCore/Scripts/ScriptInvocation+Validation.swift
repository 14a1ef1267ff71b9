import SystemPackage

extension ScriptInvocation {
    /// Refuses what the kernel would cut short or take for something else without a word.
    func validate() throws(ScriptError) {
        try validate(executable, as: "the program's path")
        try validate(workingDirectory, as: "the working folder")
        for (place, argument) in arguments.enumerated() where argument.utf8.contains(0) {
            throw ScriptError(
                .argument, path: executable, reason: "argument \(place + 1) holds a NUL character",
                cure: "an argument ends at a NUL: correct the value it was made from")
        }
        for (name, value) in environment.sorted(by: { $0.key < $1.key }) {
            guard let fault = Self.fault(name: name, value: value) else { continue }
            throw ScriptError(
                .environment, path: executable,
                reason: "environment variable \"\(OneLine.escaping(name))\" \(fault)",
                cure: "correct the variable's name or the value it was made from")
        }
        if user != nil, let name = environment.keys.sorted().first(where: Self.speaksToLoader) {
            throw ScriptError(
                .environment, path: executable,
                reason: "environment variable \"\(name)\" would have code loaded before the rights are given away",
                cure: "set it inside the script, or leave the setting that names the user empty")
        }
    }

    private func validate(_ path: FilePath, as what: String) throws(ScriptError) {
        // FilePath ends a string at its first NUL by itself, so what is left to check is where it begins.
        guard !path.isAbsolute else { return }
        throw ScriptError(
            .path, path: path, reason: "\(what) must be absolute: no search along PATH takes place",
            cure: "give the whole path, beginning with /")
    }

    /// The dynamic loader's own variables (ld.so(8)): the step that gives the rights away is loaded with them.
    private static func speaksToLoader(_ name: String) -> Bool { name.hasPrefix("LD_") || name == "GLIBC_TUNABLES" }

    private static func fault(name: String, value: String) -> String? {
        if name.isEmpty { return "has no name" }
        if name.utf8.contains(UInt8(ascii: "=")) { return "holds = in its name" }
        if name.utf8.contains(0) { return "holds a NUL character in its name" }
        if let first = name.utf8.first, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) {
            return "begins with a digit"
        }
        if value.utf8.contains(0) { return "holds a NUL character in its value" }
        return nil
    }
}
