/// What the daemon says to the interpreter: one JSON object a line.
enum HandlerRequest: Sendable {
    /// The first one: run the script. `word` marks what is ours in the stream of reports.
    case load(EventConfiguration, word: String)
    /// Call a handler.
    case event(EventName, number: Int, EventJob?)
    /// The answer to a ``HandlerMessage/Call``, and what the report is to say of it.
    case answer(Int64, error: String? = nil)

    /// The line.
    func line() throws -> [UInt8] {
        try JSONLine.encode(self) + [UInt8(ascii: "\n")]
    }
}

extension HandlerRequest: Encodable {
    private enum Key: String, CodingKey {
        case word, script, daemon, event, number, job, levels, answer, error
    }

    private enum DaemonKey: String, CodingKey {
        case name = "Name"
        case configFile = "ConfigFile"
        case workingDirectory = "WorkingDir"
        case version = "Version"
    }

    func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Key.self)
        switch self {
        case .load(let configuration, let word):
            try fields.encode(word, forKey: .word)
            try fields.encode(configuration.script.string, forKey: .script)
            var daemon = fields.nestedContainer(keyedBy: DaemonKey.self, forKey: .daemon)
            try daemon.encode(configuration.daemon.name, forKey: .name)
            try daemon.encode(configuration.daemon.configFile, forKey: .configFile)
            try daemon.encode(configuration.daemon.workingDirectory, forKey: .workingDirectory)
            try daemon.encode(configuration.daemon.version, forKey: .version)
        case .event(let event, let number, let job):
            try fields.encode(event, forKey: .event)
            try fields.encode(number, forKey: .number)
            guard let job else { return }
            try fields.encode(job.levels, forKey: .levels)
            try encode(job, into: fields.nestedContainer(keyedBy: JobAttribute.self, forKey: .job))
        case .answer(let value, let error):
            try fields.encode(value, forKey: .answer)
            try fields.encodeIfPresent(error, forKey: .error)
        }
    }

    /// The attributes as handlers name them.
    private enum JobAttribute: String, CodingKey {
        case type = "Type"
        case number = "JobId"
        case client = "Client"
        case volumes = "NumVols"
        case pool = "Pool"
        case storage = "Storage"
        case catalog = "Catalog"
        case mediaType = "MediaType"
        case name = "Job"
        case uniqueName = "JobName"
        case status = "JobStatus"
        case catalogResource = "CatalogRes"
        case volumeName = "VolumeName"
        case priority = "Priority"
        case level = "Level"
    }

    private func encode(_ job: EventJob, into container: KeyedEncodingContainer<JobAttribute>) throws {
        var fields = container
        try fields.encode(job.job.type.rawValue, forKey: .type)
        try fields.encode(job.id.number, forKey: .number)
        try fields.encode(job.job.client, forKey: .client)
        try fields.encode(job.volumes, forKey: .volumes)
        try fields.encode(job.pool, forKey: .pool)
        try fields.encode(job.storage, forKey: .storage)
        try fields.encode(job.catalog, forKey: .catalog)
        try fields.encode(job.mediaType, forKey: .mediaType)
        try fields.encode(job.job.name, forKey: .name)
        try fields.encode(job.job.uniqueName, forKey: .uniqueName)
        try fields.encode(job.status.letter, forKey: .status)
        try fields.encode(job.volumeName ?? "", forKey: .volumeName)
        try fields.encode(job.job.priority, forKey: .priority)
        try fields.encode(job.job.level, forKey: .level)
        var tuple = fields.nestedUnkeyedContainer(forKey: .catalogResource)
        let resource = job.catalogResource
        for text in [resource.base, resource.address, resource.bindDN, "redacted", resource.socket] {
            try tuple.encode(text)
        }
        try tuple.encode(resource.port)
        try tuple.encode(resource.vendor)
    }
}
