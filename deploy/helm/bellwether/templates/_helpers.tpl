{{- define "bellwether.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for what is added to it, the numbers of pods and hashes included. */}}
{{- define "bellwether.fullname" -}}
{{- $name := include "bellwether.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "bellwether.selector" -}}
app.kubernetes.io/name: {{ include "bellwether.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bellwether.labels" -}}
{{ include "bellwether.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "bellwether.serviceAccount" -}}
{{- $own := ternary (include "bellwether.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $own .Values.serviceAccount.name }}
{{- end }}

{{- define "bellwether.image" -}}
{{- $repository := required "image.repository: name where the image built from deploy/Dockerfile was pushed to" .Values.image.repository }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The lines of one table of TOML. JSON's strings, numbers, booleans and lists are TOML's; tables come apart. */}}
{{- define "bellwether.toml.lines" -}}
{{- range $key, $value := . }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value) (eq (toString $value) "")) }}
{{ regexMatch "^[A-Za-z0-9_-]+$" $key | ternary $key (toJson $key) }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* bellwether.toml */}}
{{- define "bellwether.toml" -}}
{{- $servers := required "config.kafka.bootstrap_servers: name the Kafka brokers, as host:port,host:port" .Values.config.kafka.bootstrap_servers }}
{{- $config := deepCopy .Values.config }}
{{- if .Values.policy }}
{{- if $config.policy }}
{{- fail "policy (a text) and config.policy (a built-in one or a file) are both given: keep one of them" }}
{{- end }}
{{- $_ := set $config "policy" "/etc/bellwether/config/policy.toml" }}
{{- end -}}
# By Helm, of the values under `config`: change it there.
{{- include "bellwether.toml.lines" $config }}
{{- range $name, $table := $config }}
{{- if kindIs "map" $table }}

[{{ $name }}]
{{- include "bellwether.toml.lines" $table }}
{{- end }}
{{- end }}
{{- with $config.kafka.properties }}

[kafka.properties]
{{- include "bellwether.toml.lines" . }}
{{- end }}
{{ end }}

{{/* What all processes read. */}}
{{- define "bellwether.files" -}}
bellwether.toml: |
  {{- include "bellwether.toml" . | nindent 2 }}
{{- with .Values.policy }}
policy.toml: |
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Only a change of content restarts pods. */}}
{{- define "bellwether.checksum" -}}
{{ include "bellwether.files" . | sha256sum }}
{{- end }}

{{/* A reference to a key of a Secret: (name, {secret, key}). */}}
{{- define "bellwether.fromSecret" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ (index . 1).secret | quote }}
      key: {{ (index . 1).key | quote }}
{{- end }}

{{/*
The environment of every process. Kubernetes puts the values of Secrets in where $(NAME) stands; the quotes around them say
that they are text, whatever they look like. Names that begin with BELLWETHER_ are settings, so the parts have others.
*/}}
{{- define "bellwether.environment" -}}
- name: BELLWETHER_CONFIG
  value: /etc/bellwether/config/bellwether.toml
- name: BELLWETHER_DATA_DIR
  value: /var/lib/bellwether
{{- $pairs := list }}
{{- range $index, $property := keys .Values.secrets.kafkaProperties | sortAlpha }}
{{- $part := printf "KAFKA_PROPERTY_%d" $index }}
{{ include "bellwether.fromSecret" (list $part (get $.Values.secrets.kafkaProperties $property)) }}
{{- $pairs = append $pairs (printf "%q=\"$(%s)\"" $property $part) }}
{{- end }}
{{- if $pairs }}
- name: BELLWETHER_KAFKA__PROPERTIES
  value: {{ printf "{%s}" (join "," $pairs) | toJson }}
{{- end }}
{{- range $field := list "username" "password" }}
{{- with get $.Values.secrets.registry $field }}
{{- $part := printf "REGISTRY_%s" (upper $field) }}
{{ include "bellwether.fromSecret" (list $part .) }}
- name: BELLWETHER_REGISTRY__{{ upper $field }}
  value: {{ printf "\"$(%s)\"" $part | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{- define "bellwether.mounts" -}}
- name: config
  mountPath: /etc/bellwether/config
  readOnly: true
- name: state
  mountPath: /var/lib/bellwether
- name: tmp
  mountPath: /tmp
{{- range $index, $secret := .Values.secrets.tls }}
- name: tls-{{ $index }}
  mountPath: /etc/bellwether/tls/{{ $secret }}
  readOnly: true
{{- end }}
{{- end }}

{{/* All but `state`: (root, name of the ConfigMap). */}}
{{- define "bellwether.volumes" -}}
- name: config
  configMap:
    name: {{ index . 1 }}
- name: tmp
  emptyDir: {}
{{- range $index, $secret := (index . 0).Values.secrets.tls }}
- name: tls-{{ $index }}
  secret:
    secretName: {{ $secret | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{/* What is the same in every pod. Service links are off because they are variables named BELLWETHER_…, which are settings. */}}
{{- define "bellwether.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/* What is the same in every container. */}}
{{- define "bellwether.container" -}}
image: {{ include "bellwether.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* A commit may wait that long twice, for its records and for its end; what is left is for HTTP, RocksDB and the group. */}}
{{- define "bellwether.grace" -}}
{{ add (mul 2 .Values.config.kafka.transaction_timeout_seconds) 30 }}
{{- end }}

{{/* Probes: (seconds until it must answer). A restore is a matter of readiness: a worker is not killed for it. */}}
{{- define "bellwether.probes" -}}
startupProbe:
  httpGet: { path: /healthz, port: http }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (add . 4) 5 }}
livenessProbe:
  httpGet: { path: /healthz, port: http }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: http }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}
